import itertools
import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.errors import NotEnoughDataError
from rlhf_core.gate.evaluation import (
    accuracy,
    clustered_interval,
    evaluate,
    mean_kl,
    repeats,
    reply_statistics,
)
from rlhf_core.model.base_model import STARTER_MODEL, Response, load_base
from rlhf_core.records import Comparison
from rlhf_core.starter.facts import facts
from rlhf_core.starter.world import ask

REQUESTS = [ask(f, "What is the capital of {}?") for f in facts("train") if f.topic == "capital"]
PROMPTS = [[{"role": "user", "content": r.text}] for r in REQUESTS[:40]]
STATEMENTS = [r.statement.format(r.answers[0]) for r in REQUESTS[:40]]


@pytest.fixture(scope="module")
def starter():
    return load_base("starter", quantization="nf4", training=False)


def responses(base, texts, *, finished=True):
    ids = [tuple(base.chat.encode_reply(t, finished=finished)) for t in texts]
    return [Response(t, i, finished) for t, i in zip(texts, ids, strict=True)]


def test_whole_sentences_show_no_sign_of_collapse(starter):
    found = reply_statistics(starter, PROMPTS, responses(starter, STATEMENTS))
    assert found.empty_rate == found.unfinished_rate == found.repeated_rate == 0
    assert found.cut_rate < 0.1
    assert found.distinct_rate == 1  # forty capitals


def test_cut_sentences_are_counted_as_cut(starter):
    cut = [" ".join(s.split()[:-1]) for s in STATEMENTS]
    assert reply_statistics(starter, PROMPTS, responses(starter, cut)).cut_rate > 0.8


def test_a_whole_sentence_may_end_with_any_end_that_the_model_declares(tmp_path):
    shutil.copytree(STARTER_MODEL, tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    rare = 40  # a token that the starter would never write after a sentence
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [1, rare]}))
    base = load_base(str(tmp_path / "model"), quantization="none", training=False)
    ended = [replace(r, token_ids=(*r.token_ids[:-1], rare)) for r in responses(base, STATEMENTS)]
    assert reply_statistics(base, PROMPTS, ended).cut_rate < 0.1


def test_empty_and_endless_replies_are_counted(starter):
    half = ["", *["Paris."] * (len(PROMPTS) - 1)]
    assert reply_statistics(starter, PROMPTS, responses(starter, half)).empty_rate == 1 / 40
    endless = responses(starter, STATEMENTS, finished=False)
    assert reply_statistics(starter, PROMPTS, endless).unfinished_rate == 1.0


def test_the_base_has_no_kl_to_itself(starter):
    found = starter.respond(PROMPTS, adapter=None, max_new_tokens=16, seed=3)
    assert mean_kl(starter, PROMPTS, found, adapter=None) == pytest.approx(0.0, abs=1e-4)


def test_a_policy_compared_with_itself_neither_wins_nor_loses(starter):
    def by_length(prompts, replies):
        return torch.tensor([float(len(r)) for r in replies])

    found = evaluate(starter, PROMPTS, by_length, candidate=None, served=None)
    assert found.win_rate == 0.5
    assert found.win_rate_low < 0.5 < found.win_rate_high


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Happy Happy Happy to help", True),
        ("it is so it is so it is so", True),
        ("very good very good", False),
        ("The capital of France is Paris.", False),
        ("", False),
        ("no a no b no c no no d", True),
    ],
)
def test_repetition_is_seen(text, expected):
    assert repeats(text) is expected


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


@pytest.mark.parametrize(("size", "rankings"), [(2, 120), (6, 40), (10, 20)])
def test_meaningless_rankings_beat_chance_about_once_in_twenty_times(size, rankings):
    rng = random.Random(size)
    prompt = [{"role": "user", "content": "?"}]
    passed = 0
    for _ in range(300):
        orders = [rng.sample(range(size), size) for _ in range(rankings)]
        comparisons = [
            Comparison(prompt, str(a), str(b), "a" if order[a] < order[b] else "b", group=str(n))
            for n, order in enumerate(orders)
            for a, b in itertools.combinations(range(size), 2)
        ]
        found = accuracy(lambda _, r: torch.tensor([float(x) for x in r]), comparisons)
        passed += found.low > 0.5
    assert passed / 300 < 0.09


def test_no_prompts_are_an_error(base):
    with pytest.raises(NotEnoughDataError, match="0 prompts"):
        evaluate(base, [], lambda p, r: [1.0] * len(r), candidate=None, served=None)


def test_the_bounds_of_a_win_rate_are_shares():
    low, _, high = clustered_interval([0.0, 1.0], ["x", "y"], z=3.0)
    assert (low, high) == (0.0, 1.0)


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
