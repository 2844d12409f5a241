import random
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_core.config import RewardSettings
from rlhf_core.records import Comparison, Unpaired
from rlhf_core.reward.reward_data import (
    THRESHOLD,
    Collator,
    RewardData,
    Term,
    TokenizedOpinion,
    opinion_keys,
    opinion_shares,
    prompt_key,
)
from rlhf_core.reward.reward_model import ScoreModel
from rlhf_core.reward.trainer import PreferenceLikelihood

SETTINGS = RewardSettings(corrupted_share=0.0)


def ranking(prompt, texts, group="r1", **more):
    """All pairs of one ranking, the best first."""
    return [
        Comparison(prompt, better, worse, "a", group=group, **more)
        for i, better in enumerate(texts)
        for worse in texts[i + 1 :]
    ]


def opinions(base, comparisons=(), unpaired=(), **changes):
    evidence = RewardData(base, comparisons, unpaired, SETTINGS.model_copy(update=changes))
    return evidence.opinions(Counter(evidence.prompts), random.Random(0))


def test_a_sample_without_a_preference_decides_nothing(base, said):
    prompt, other = said("red"), said("hello")
    pairs = [Comparison(prompt, "red", "blue", "a"), Comparison(other, "red", "blue", "tie")]
    evidence = RewardData(base, pairs, [Unpaired(other, "red", True, "r")], SETTINGS)
    assert evidence.decides(Counter([prompt_key(prompt)]))
    assert not evidence.decides(Counter([prompt_key(other)]))


def test_a_tie_that_could_not_tie_is_refused(said):
    with pytest.raises(ValueError, match="could not tie"):
        Comparison(said("red"), "red", "blue", "tie", could_tie=False)


@pytest.fixture
def likelihood(base, disturb):
    """A function that makes a member with habits for these opinions."""
    base.attach("m0")
    disturb(base, "m0")
    member = ScoreModel(base, "m0")

    def make(found, raters=0):
        return PreferenceLikelihood(member, raters, found, SETTINGS)

    return make


def loss(base, likelihood, found):
    """The loss of these opinions as one batch."""
    batch = Collator(base, found)([{"opinion": i} for i in range(len(found))])
    with base.using("m0"):
        scores = likelihood(batch["input_ids"], batch["attention_mask"]).logits.squeeze(-1)
    return likelihood.losses(scores, batch)[0].sum()


def test_all_pairs_of_a_ranking_are_one_opinion_and_each_response_is_read_once(base, said):
    (found,) = opinions(base, ranking(said("hello"), ["yes", "no", "blue", "sky"]))
    assert len(found.terms) == 6 and len(found.responses) == 4
    batch = Collator(base, [found])([{"opinion": 0}])
    assert batch["input_ids"].shape[0] == 4
    assert found.weight == pytest.approx(1)


def test_the_same_group_on_another_prompt_is_another_opinion(base, said):
    pairs = [*ranking(said("hello"), ["yes", "no"]), *ranking(said("what is"), ["yes", "no"])]
    assert len(opinions(base, pairs)) == 2


def test_the_loss_of_a_ranking_is_the_mean_of_the_losses_of_its_pairs(base, said, likelihood):
    ranked = ranking(said("hello"), ["yes", "no thanks", "blue", "the sky"])
    alone = [Comparison(c.prompt, c.response_a, c.response_b, c.label) for c in ranked]
    together, single = opinions(base, ranked), opinions(base, alone)
    model = likelihood([*together, *single])
    losses = [loss(base, model, [one]) for one in single]
    assert_close(loss(base, model, together), torch.stack(losses).mean())


def test_a_ranking_of_nine_with_ties_teaches_exactly_what_the_mean_of_its_36_pairs_does(
    base, said, likelihood
):
    texts = ["yes", "no", "blue", "sky", "blue sky", "no thanks", "the sky", "kind", "kind kind"]
    places = [0, 1, 1, 2, 3, 4, 4, 4, 5]
    ranked = [
        Comparison(said("what is red"), a, b, "tie" if one == other else "a", group="r9")
        for (a, one), (b, other) in combinations(zip(texts, places, strict=True), 2)
    ]
    alone = [replace(c, group=None) for c in ranked]
    together = opinions(base, ranked, tie_weight=1.0, label_smoothing=0.0)
    single = opinions(base, alone, tie_weight=1.0, label_smoothing=0.0)
    model = likelihood([*together, *single])

    batch = Collator(base, together)([{"opinion": 0}])
    assert len(single) == 36 and len(together) == 1
    assert batch["input_ids"].shape[0] == 9, "each reply is read once, and not once for each pair"
    weights = [*base.weights("m0"), *model.own_weights()[:3]]  # the adapter's, head's, tie's
    with base.training("m0"):
        whole = loss(base, model, together)
        mean = torch.stack([loss(base, model, [one]) for one in single]).mean()
        slopes = [torch.autograd.grad(value, weights) for value in (whole, mean)]
    assert_close(whole, mean, atol=1e-6, rtol=0)
    assert_close(*slopes, atol=1e-6, rtol=0)
    assert max(slope.abs().max() for slope in slopes[0]) > 1e-3


def test_the_pairs_of_an_opinion_share_its_weight_wherever_pairs_are_counted(said):
    nine = ranking(said("hello"), list("abcdefghi"))
    votes = [*nine, Comparison(said("hello"), "a", "b", "a"), *ranking(said("what"), ["a", "b"])]
    assert opinion_shares(votes) == pytest.approx([1 / 36] * 36 + [1, 1])
    assert len(set(opinion_keys(votes))) == 3


words = st.lists(st.sampled_from(["yes", "no", "blue sky", "kind kind kind", ""]), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(data=st.data())
def test_padding_order_and_micro_batches_never_change_a_loss(base, said, likelihood, data):
    texts = data.draw(st.lists(words.map(" ".join), min_size=2, max_size=4, unique=True))
    n = data.draw(st.integers(2, 4))
    pairs = [c for i in range(n) for c in ranking(said(f"what is {i}" * (i + 1)), texts)]
    pairs[0] = Comparison(pairs[0].prompt, "red", "green", "tie", weight=0.7)
    thumbs = [Unpaired(said("hello"), texts[0], good=True, rater="ann")]
    found = opinions(base, pairs, thumbs)
    model = likelihood(found, raters=1)
    model.offsets.data += 0.3
    whole = loss(base, model, found)
    shuffled = data.draw(st.permutations(found))
    assert_close(loss(base, model, shuffled), whole)
    one_by_one = [loss(base, model, [one]) for one in shuffled]
    assert_close(torch.stack(one_by_one).mean(), whole)


def test_the_preferred_response_comes_first_whichever_side_it_was_on(base, said):
    one = Comparison(said("hello"), "yes", "no", "a")
    assert opinions(base, [one]) == opinions(base, [one.swap()])
    (found,) = opinions(base, [one])
    assert base.tokenizer.decode(found.responses[found.terms[0].first]).endswith("yes</s>")


def test_ties_are_left_out_if_they_weigh_nothing(base, said):
    both = [Comparison(said("hello"), "yes", "no", label) for label in ("a", "tie")]
    assert len(opinions(base, both)) == 2
    assert len(opinions(base, both, tie_weight=0.0)) == 1


def test_corrupted_copies_join_as_rejected_ones_of_the_same_weight(base, said):
    (found,) = opinions(
        base, [Comparison(said("hello"), "blue sky", "no", "a")], corrupted_share=1.0
    )
    plain, copy = found.terms
    assert copy.first == plain.first and copy.second not in (plain.first, plain.second)
    assert copy.weight == plain.weight and copy.smoothing == 0 and not copy.could_tie


def test_strength_asks_for_a_margin_by_its_rank_on_whatever_scale(base, said):
    for scale in (1.0, 100.0):
        strong = [
            Comparison(said("hello"), "yes", f"no {s}", "a", strength=scale * s) for s in (1, 2)
        ]
        found = opinions(base, [*strong, Comparison(said("hello"), "yes", "no", "a")])
        assert [one.terms[0].margin for one in found] == [0.25, 0.75, 0.0]


def test_a_thumb_is_held_against_its_raters_threshold(base, said):
    pair = Comparison(said("hello"), "yes", "no", "a")
    up = Unpaired(said("hello"), "yes", good=True, rater="ann")
    down = Unpaired(said("hello"), "no", good=False, rater="bob")
    _, liked, disliked = opinions(base, [pair] * 1, [up, down])
    assert (liked.terms[0].first, liked.terms[0].second) == (0, THRESHOLD)
    assert (disliked.terms[0].first, disliked.terms[0].second) == (THRESHOLD, 0)
    assert liked.terms[0].raters == (1, 0) and disliked.terms[0].raters == (0, 2)


@given(thumbs=st.integers(1, 40), share=st.sampled_from([0.1, 0.3]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_thumbs_never_get_more_than_their_share_of_the_weight(base, said, thumbs, share):
    pairs = [Comparison(said("hello"), "yes", "no", "a")] * 10
    ups = [Unpaired(said("hello"), "yes", good=True, rater=f"r{i}") for i in range(thumbs)]
    found = opinions(base, pairs, ups, unpaired_share=share)
    whole = sum(one.weight for one in found)
    single = sum(one.weight for one in found if len(one.responses) == 1)
    assert whole == pytest.approx(len(found))
    assert single <= share * whole + 1e-6
    assert single == pytest.approx(whole * min(share, thumbs / (thumbs + 10)))


def test_a_strict_raters_thumb_says_less_of_the_response_than_a_mild_ones(base, likelihood):
    up = TokenizedOpinion("p", ((5, 6),), (Term(0, THRESHOLD, 1.0, raters=(1, 0)),))
    model = likelihood([up], raters=1)
    scores = torch.zeros(1)
    batch = Collator(base, [up])([{"opinion": 0}])
    with torch.no_grad():
        here = model.losses(scores, batch)[0]
        model.offsets[1] = 2.0  # this rater wants a score of 2 for a thumb up
        strict = model.losses(scores, batch)[0]
    prior = 2.0**2 / 2  # one use, of standard deviation 1
    assert_close(here, torch.tensor([0.6931]), atol=1e-4, rtol=0)
    assert_close(strict, torch.tensor([2.1269 + prior]), atol=1e-4, rtol=0)


def test_offsets_explain_raters_but_not_more_than_their_prior_allows(base, likelihood):
    ups = [
        TokenizedOpinion("p", ((5, 6),), (Term(0, THRESHOLD, 1.0, raters=(1, 0)),))
        for _ in range(20)
    ]
    model = likelihood(ups, raters=1)
    batch = Collator(base, ups)([{"opinion": i} for i in range(20)])
    optimizer = torch.optim.Adam([model.offsets], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        model.losses(torch.zeros(1), batch)[0].sum().backward()
        optimizer.step()
    c = model.offsets[1].item()  # where 20 (1 - sigmoid(-c)) = -c
    assert c == pytest.approx(-20 / (1 + 2.718281828 ** (-c)), abs=0.01)
    assert model.offsets[0].item() == 0


def test_numbers_take_the_place_of_raters(base, said):
    pair = Comparison(said("hello"), "yes", "no", "a", raters=("ann", "bob"))
    assert pair.swap().raters == ("bob", "ann")
    evidence = RewardData(base, [pair, pair.swap()], [], SETTINGS)
    found = evidence.opinions(Counter(evidence.prompts), random.Random(0))
    assert evidence.raters == 2
    assert [one.terms[0].raters for one in found] == [(1, 2), (1, 2)]
    assert "ann" not in repr(found)


def test_a_sample_holds_opinions_as_often_as_their_prompts_were_drawn(base, said):
    comparisons = [Comparison(said(text), "yes", "no", "a") for text in ("hello", "what")]
    evidence = RewardData(base, comparisons, [], SETTINGS)
    found = evidence.opinions(Counter({prompt_key(said("what")): 3}), random.Random(0))
    assert [one.prompt for one in found] == [prompt_key(said("what"))] * 3
