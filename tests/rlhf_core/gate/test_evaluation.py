import itertools
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.errors import NotEnoughDataError
from rlhf_core.gate.evaluation import (
    accuracy,
    calibration_error,
    disagreement,
    evaluate,
    length_slopes,
    mean_kl,
)
from rlhf_core.gate.intervals import clustered_interval, sign_flip_test
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.world import ask

REQUESTS = [ask(f, "What is the capital of {}?") for f in facts("train") if f.topic == "capital"]
PROMPTS = [[{"role": "user", "content": r.text}] for r in REQUESTS[:40]]


@pytest.fixture(scope="module")
def starter():
    return load_base("starter", quantization="nf4")


def test_the_base_has_no_kl_to_itself(starter):
    found = starter.respond(PROMPTS, adapter=None, max_new_tokens=16, seed=3)
    assert mean_kl(starter, PROMPTS, found, adapter=None) == pytest.approx(0.0, abs=1e-4)


def test_a_policy_compared_with_itself_neither_wins_nor_loses(starter):
    def by_length(prompts, replies):
        return torch.tensor([float(len(r)) for r in replies])

    done = []
    found = evaluate(starter, PROMPTS, by_length, candidate=None, served=None, progress=done.append)
    assert done == sorted(done) and 0 < done[0] < done[-1] < 1
    assert found.win_rate == 0.5
    assert found.win_rate_low < 0.5 < found.win_rate_high
    assert found.candidate == found.served
    assert all(low <= 0 for low in found.increases.values())


class Members:
    """Reward models that score a text by its place in an alphabet, forwards or backwards."""

    learnt_from = None

    def __init__(self, *signs):
        self.signs = torch.tensor(signs)

    def member_scores(self, prompts, responses):
        return self.signs[:, None] * torch.tensor([float(ord(r[0])) for r in responses])


def test_members_who_agree_on_every_pair_disagree_on_none_and_guesses_on_all():
    pairs = [Comparison(PROMPTS[0], one, other, "tie") for one, other in ("ab", "cb", "xy")]
    assert disagreement(Members(1.0, 2.0, 1.0), pairs) == 0
    assert disagreement(Members(1.0, -1.0), pairs) == 2, "two guesses differ on every second pair"
    assert disagreement(Members(1.0), pairs) is None
    assert disagreement(Members(1.0, -1.0), []) is None


def test_how_much_a_score_likes_length_is_seen_in_pairs_whoever_was_preferred(starter):
    def by_length(prompts, replies):
        return [math.log1p(len(starter.chat.cut_reply(r))) for r in replies]

    texts = ["a", "a b c d", "one two three four five six seven", "yes"]
    for label in ("a", "b", "tie"):
        votes = [Comparison(PROMPTS[0], one, other, label) for one in texts for other in texts]
        assert length_slopes(starter, by_length, votes).tolist() == pytest.approx([1.0], abs=1e-5)
        assert length_slopes(starter, lambda p, r: [1.0] * len(r), votes).tolist() == [0.0]
    same = [Comparison(PROMPTS[0], "yes", "yes", "tie")]
    assert length_slopes(starter, by_length, same).tolist() == [0.0]


def test_flipping_signs_finds_what_coin_flips_would_not_give():
    assert sign_flip_test([1.0] * 12, [str(n) for n in range(12)]) < 0.002
    assert sign_flip_test([1.0] * 12, ["one"] * 12) == pytest.approx(0.5, abs=0.03)
    assert sign_flip_test([1.0, -1.0] * 6, [str(n) for n in range(12)]) > 0.4
    assert sign_flip_test([], []) == 1.0


def test_accuracy_counts_decided_comparisons_and_bounds_them():
    prompt = [{"role": "user", "content": "?"}]
    comparisons = [Comparison(prompt, "long", "s", "a")] * 30
    comparisons += [Comparison(prompt, "long", "s", "b")] * 10
    comparisons += [Comparison(prompt, "long", "s", "tie")] * 5

    def by_length(prompts, replies):
        return torch.tensor([float(len(r)) for r in replies])

    found = accuracy(by_length, comparisons, z=1.96)
    assert (found.value, found.votes) == (0.75, 40)
    assert found.low == pytest.approx(0.598, abs=1e-3)  # Wilson, 30 of 40
    assert found.high == pytest.approx(0.858, abs=1e-3)


def ranked(question, texts, **more):
    """All pairs of one ranking, the first text being the best."""
    prompt = [{"role": "user", "content": question}]
    pairs = itertools.combinations(texts, 2)
    return [Comparison(prompt, a, b, "a", group=question, **more) for a, b in pairs]


def test_a_ranking_of_nine_is_one_vote_of_the_accuracy_and_of_its_bounds():
    def by_length(_, replies):
        return torch.tensor([float(len(r)) for r in replies])

    right = ranked("right", ["x" * n for n in range(9, 0, -1)])
    wrong = [Comparison([{"role": "user", "content": f"{n}"}], "s", "long", "a") for n in range(3)]
    found = accuracy(by_length, [*right, *wrong], z=1.96)
    assert (found.value, found.votes) == (pytest.approx(0.25), 4)
    sure = accuracy(by_length, right, z=1.96)
    assert (sure.value, sure.votes, sure.chance) == (1.0, 1, pytest.approx(0.5, abs=0.02))
    assert sure.low == pytest.approx(0.207, abs=1e-3)  # Wilson, 1 of 1


def test_the_pairs_of_a_ranking_share_its_weight_in_the_calibration_error():
    wrong = [Comparison([{"role": "user", "content": f"{n}"}], "a", "b", "b") for n in range(2)]
    votes = [*ranked("right", "abcdefghi"), *wrong]
    error = calibration_error(lambda p, *_: torch.full((len(p),), 0.9), votes)
    assert error == pytest.approx(0.9 - 1 / 3)


@pytest.mark.parametrize(("size", "rankings"), [(2, 120), (6, 40), (10, 20)])
def test_meaningless_rankings_beat_chance_about_once_in_twenty_times(size, rankings):
    rng = random.Random(size)
    passed = passed_by_rank = 0
    for _ in range(300):
        orders = [rng.sample(range(size), size) for _ in range(rankings)]
        comparisons = [
            Comparison(
                [{"role": "user", "content": f"{n}?"}],
                *(str(a), str(b), "a" if order[a] < order[b] else "b"),
                group=str(n),
            )
            for n, order in enumerate(orders)
            for a, b in itertools.combinations(range(size), 2)
        ]
        found = accuracy(lambda _, r: torch.tensor([float(x) for x in r]), comparisons)
        passed += found.low > 0.5
        passed_by_rank += found.by_rank_low > 0.5
    assert passed / 300 < 0.09
    assert passed_by_rank / 300 < 0.09


def test_votes_that_the_scores_are_sure_of_count_more():
    """Of 90 votes 60 are on pairs that hardly differ, and are coin flips."""
    prompts = [[{"role": "user", "content": f"{n}?"}] for n in range(90)]
    sides = ["a", "b"] * 30 + ["a"] * 24 + ["b"] * 6
    replies = ["x" * 11] * 60 + ["x" * 40] * 30
    comparisons = [
        Comparison(prompt, better, "x" * 10, side)
        for prompt, better, side in zip(prompts, replies, sides, strict=True)
    ]
    found = accuracy(lambda _, texts: [float(len(text)) for text in texts], comparisons)
    assert found.value == pytest.approx(0.6)
    assert found.low < 0.52
    assert found.by_rank == pytest.approx((30 * 30.5 + 24 * 75.5) / (60 * 30.5 + 30 * 75.5))
    assert found.by_rank_low > 0.55


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.data())
def test_one_more_wrong_prediction_never_raises_the_bound(right, data):
    place = data.draw(st.integers(0, len(right) - 1))

    def by_rank_low(right):
        prompts = [[{"role": "user", "content": f"{n}?"}] for n in range(len(right))]
        comparisons = [
            Comparison(prompt, "x" * (number + 2), "x", "a" if ok else "b")
            for number, (prompt, ok) in enumerate(zip(prompts, right, strict=True))
        ]
        return accuracy(
            lambda _, texts: [float(len(text)) for text in texts], comparisons
        ).by_rank_low

    worse = [ok and number != place for number, ok in enumerate(right)]
    assert by_rank_low(worse) <= by_rank_low(right) + 0.02  # the sample's error falls a little, too


def test_no_prompts_are_an_error(base):
    with pytest.raises(NotEnoughDataError, match="0 prompts"):
        evaluate(base, [], lambda p, r: [1.0] * len(r), candidate=None, served=None)


def test_the_bounds_of_a_win_rate_are_shares():
    low, _, high = clustered_interval([0.0, 1.0], ["x", "y"], z=3.0)
    assert (low, high) == (0.0, 1.0)


def test_a_score_that_is_no_number_predicts_nothing():
    comparisons = [Comparison([{"role": "user", "content": "?"}], "x", "y", "a")] * 9
    assert accuracy(lambda p, r: [math.nan] * len(r), comparisons).value == 0.0


def test_equal_scores_are_never_counted_as_right():
    prompt = [{"role": "user", "content": "?"}]
    flat = accuracy(lambda p, r: torch.zeros(len(r)), [Comparison(prompt, "x", "y", "a")] * 9)
    assert flat.value == 0.0


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=60))
def test_repeating_every_prompt_does_not_narrow_the_interval(values):
    names = [str(i) for i in range(len(values))]
    once = clustered_interval(values, names, z=1.0)
    thrice = clustered_interval(values * 3, names * 3, z=1.0)
    assert once[1] == pytest.approx(thrice[1])
    if len(set(values)) > 1:
        assert thrice[1] - thrice[0] == pytest.approx(once[1] - once[0], rel=0.01, abs=0.01)


def test_a_win_everywhere_is_still_not_certain():
    low, mean, high = clustered_interval([1.0] * 50, [str(i) for i in range(50)], z=1.645)
    assert mean == high == 1.0
    assert low < 1.0


def test_the_first_wrong_prediction_lowers_the_bound_of_votes_in_clusters():
    clusters = [str(n % 5) for n in range(20)]

    def lower_bound(right):
        votes = [
            Comparison(prompt, "kind", "rude", "a" if ok else "b")
            for prompt, ok in zip(PROMPTS[:20], right, strict=True)
        ]
        return accuracy(
            lambda _, replies: [float(reply == "kind") for reply in replies],
            votes,
            clusters=clusters,
        ).low

    assert lower_bound([True] * 19 + [False]) < lower_bound([True] * 20)
