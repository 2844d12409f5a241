import random

import pytest

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes.ifeval import read_instructions
from rlhf_core.gate.probes.tastes import parse_tastes
from rlhf_core.model.base_model import Response
from rlhf_core.worlds.checkable.measure import (
    Satisfaction,
    SatisfactionComparison,
    gain,
    satisfaction,
)
from rlhf_core.worlds.checkable.prompts import CheckablePrompt

TASTES = parse_tastes(["at-most-words:3", "no-commas"])
PROMPTS = [CheckablePrompt(f"Question {n}?") for n in range(40)]


def replies(*texts: str, finished: bool = True) -> list[Response]:
    return [Response(text, (1,), finished) for text in texts]


def measured(prompts: list[CheckablePrompt], *texts: str) -> Satisfaction:
    return satisfaction(prompts, replies(*texts), TASTES)


def test_shares_count_the_replies_that_meet_each_taste_and_all_of_them() -> None:
    texts = ("Yes.", "Well, yes.", "This has no comma at all.", "One, two, three, four.")
    found = measured(PROMPTS[:4], *texts)
    assert {name: share.value for name, share in found.tastes.items()} == {
        "at-most-words:3": 0.5,
        "no-commas": 0.5,
    }
    assert (found.joint.value, found.replies, found.prompts) == (0.25, 4, 4)
    assert found.mean_words == (1 + 2 + 6 + 4) / 4
    assert (found.repeated, found.ended) == (0.0, 1.0)
    cut = satisfaction(PROMPTS[:2], replies("no no no no", "Yes.", finished=False), TASTES)
    assert (cut.repeated, cut.ended) == (0.5, 0.0)


def test_many_replies_to_few_prompts_are_not_many_independent_ones() -> None:
    texts = ("Yes.", "Well, no.") * 20
    spread = measured(PROMPTS, *texts).joint
    few = measured([PROMPTS[n % 2] for n in range(40)], *texts).joint
    assert (spread.value, few.value) == (0.5, 0.5)
    assert few.high - few.low > 2 * (spread.high - spread.low)


def test_instructions_count_by_their_kind_where_they_are_in_force() -> None:
    rows = [["length_constraints:number_words"], ["startend:quotation"], []]
    kwargs = [[{"relation": "at least", "num_words": 2}], [{}], []]
    prompts = [
        CheckablePrompt(str(n), read_instructions(names, given)[0])
        for n, (names, given) in enumerate(zip(rows, kwargs, strict=True))
    ]
    found = satisfaction(prompts, replies("Yes, it is so.", '"Yes"', "Yes"), TASTES)
    assert {name: share.value for name, share in found.tastes.items()} == {
        "at-most-words:3": 2 / 3,
        "no-commas": 2 / 3,
        "length_constraints:number_words": 1.0,
        "startend:quotation": 1.0,
    }


def test_a_gain_is_paired_and_its_interval_is_the_same_for_the_same_seed() -> None:
    rng = random.Random(1)
    before = replies(*(rng.choice(("Yes.", "Well, yes.")) for _ in PROMPTS))
    after = [Response("Yes.", (1,), True) if rng.random() < 0.6 else old for old in before]
    found = gain(PROMPTS, before, after, TASTES, seed=4)
    assert found == gain(PROMPTS, before, after, TASTES, seed=4)
    was, now = (satisfaction(PROMPTS, side, TASTES).joint.value for side in (before, after))
    joint = found["joint"]
    assert joint.value == pytest.approx(now - was) and 0 < joint.low < joint.value < joint.high
    same = gain(PROMPTS, before, before, TASTES)["joint"]
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_a_comparison_says_each_figure_before_and_after() -> None:
    before, after = replies("Well, yes.", "One, two"), replies("Yes.", "One, two")
    was, now = (satisfaction(PROMPTS[:2], side, TASTES) for side in (before, after))
    more = gain(PROMPTS[:2], before, after, TASTES)
    first, *lines = SatisfactionComparison(candidate=now, served=was, gain=more).lines()
    assert first == "2 replies to 2 prompts that nobody votes on"
    assert lines[1].strip().startswith("0.500  no-commas (was 0.000; gain +0.500,")
    assert [line.split()[1] for line in lines] == [
        *("at-most-words:3", "no-commas", "joint", "mean_words", "repeated", "ended")
    ]


def test_replies_must_be_there_one_for_each_prompt() -> None:
    with pytest.raises(InvalidInputError, match="1 replies to 2 prompts"):
        measured(PROMPTS[:2], "Yes.")
    with pytest.raises(InvalidInputError, match="0 replies to 0 prompts"):
        measured([])
