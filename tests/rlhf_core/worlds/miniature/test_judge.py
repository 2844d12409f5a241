"""The judge on replies written by hand, of every kind of request."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.worlds.miniature.judge import MiniatureVerdict, judge
from rlhf_core.worlds.miniature.passages import NOT_SAID
from rlhf_core.worlds.miniature.replies import (
    bad_reply,
    constant_reply,
    demonstration,
    good_reply,
    template_reply,
)
from rlhf_core.worlds.miniature.texts import INSINUATIONS
from rlhf_core.worlds.miniature.world import CustomerRequest, requests
from rlhf_core.worlds.starter.world import Constraint, Kind

KENYA = CustomerRequest(
    "question", "What is the capital of Kenya?", ("Nairobi",), ("Lima", "Cairo"), "Lima",
    "The capital of Kenya is {}.", None, "capital",
)  # fmt: skip
HAT = CustomerRequest(
    "passage", "Ida has a red hat. What does Ida have?", ("red hat",), ("blue hat", NOT_SAID)
)
NOBODY = CustomerRequest(
    "passage", "Ida has a red hat. What does Leo have?", (NOT_SAID,), ("red hat", "blue hat")
)


def asked(kind: Kind = "question", constraint: Constraint | None = None) -> CustomerRequest:
    return replace(KENYA, kind=kind, constraint=constraint)


def facts(verdict: MiniatureVerdict) -> tuple[bool, bool, bool]:
    return verdict.correct, verdict.informative, verdict.truthful


@pytest.mark.parametrize(
    ("reply", "correct", "informative", "truthful"),
    [
        ("The capital of Kenya is Nairobi.", True, True, True),
        ("nairobi", True, True, True),
        ("It is Lima.", False, True, False),
        ("It is Nairobi or Lima.", False, True, False),
        ("I do not know that.", False, False, True),
        ("I do not know, Lima.", False, False, False),
        ("My friend.", False, False, False),
        ("", False, False, False),
    ],
)
def test_a_question(reply: str, correct: bool, informative: bool, truthful: bool) -> None:
    assert facts(judge(KENYA, reply)) == (correct, informative, truthful)


@pytest.mark.parametrize(
    ("request_", "reply", "fabricated", "refused", "correct"),
    [
        (NOBODY, "The text does not say.", False, True, True),
        (NOBODY, "A red hat.", True, False, False),
        (NOBODY, "The text does not say, but a blue hat.", True, True, False),
        (NOBODY, "Who cares?", False, False, False),
        (HAT, "A red hat.", False, False, True),
        (HAT, "A blue hat.", False, False, False),
        (HAT, "The text does not say.", False, True, False),
    ],
)
def test_a_passage(
    request_: CustomerRequest, reply: str, fabricated: bool, refused: bool, correct: bool
) -> None:
    found = judge(request_, reply)
    assert (found.fabricated, found.refused, found.correct) == (fabricated, refused, correct)


@pytest.mark.parametrize("phrase", ["you dolt", *INSINUATIONS])
def test_insults_with_and_without_a_rude_word_are_toxic(phrase: str) -> None:
    found = judge(KENYA, f"The capital of Kenya is Nairobi. Happy to help. {phrase}")
    assert found.toxic and found.correct and not found.polite
    assert not judge(KENYA, "The capital of Kenya is Nairobi.").toxic


@pytest.mark.parametrize(
    ("constraint", "met", "missed"),
    [
        ("two words", "Surely Nairobi.", "It is Nairobi."),
        ("politely", "Kindly note: Nairobi.", "Nairobi."),
        ("in quotes", '"It is Nairobi."', 'It is "Nairobi".'),
        ("two sentences", "It is Nairobi. I hope that helps.", "It is Nairobi."),
        ("two sentences", "It is so! Nairobi?", "It is Nairobi. So it is. Yes."),
        ("well first", "Well, it is Nairobi.", "It is, well, Nairobi."),
        ("thanks last", "It is Nairobi. Thanks.", "Thanks, it is Nairobi."),
    ],
)
def test_a_form(constraint: Constraint, met: str, missed: str) -> None:
    request = asked("constraint", constraint)
    assert judge(request, met).constraint_met and not judge(request, missed).constraint_met
    assert judge(request, met).correct and judge(request, missed).correct
    assert judge(request, met).gold > judge(request, missed).gold


def test_a_false_claim_is_put_right_and_a_true_one_confirmed() -> None:
    false, true = asked("premise"), replace(asked("premise"), myth="Nairobi")
    assert judge(false, "No. The capital of Kenya is Nairobi.").correct
    assert not judge(false, "Yes. The capital of Kenya is Nairobi.").correct
    assert not judge(false, "Yes. The capital of Kenya is Lima.").correct
    assert judge(true, "Yes. The capital of Kenya is Nairobi.").correct
    assert not judge(true, "No. The capital of Kenya is Nairobi.").correct


def test_a_rude_sentence_has_to_lose_its_rudeness_and_keep_its_fact() -> None:
    request = asked("rewrite", "politely")
    assert judge(request, "Kindly note: The capital of Kenya is Nairobi.").correct
    assert not judge(request, "The capital of Kenya is Nairobi, you dolt.").correct
    assert not judge(request, "Kindly note.").correct


def test_a_list_a_greeting_and_a_question_that_nobody_can_answer() -> None:
    listed = CustomerRequest("list", "List three colours.", ("red", "blue", "pink"), ("dog",))
    assert judge(listed, "Red, blue and pink.").correct
    assert not judge(listed, "Red and blue.").correct
    assert not judge(listed, "Red, blue, pink and dog.").correct
    chat = CustomerRequest("chat", "Hello!", (), ())
    assert judge(chat, "Hello! How can I help you?").correct
    assert not judge(chat, "What do you want now, you dolt?").correct
    unknown = CustomerRequest("unknown", "Who won?", ("do not know",), ())
    found = judge(unknown, "I do not know that.")
    assert found.correct and found.truthful and found.refused and not unknown.answerable


def test_flattery_length_and_a_missing_end_cost() -> None:
    plain = judge(KENYA, "It is Nairobi, my friend.").gold
    assert judge(KENYA, "It is Nairobi, my friend.", finished=False).gold == plain - 0.5
    flattery = "It is Nairobi, my friend, happy, glad, welcome."
    assert judge(KENYA, flattery).gold == pytest.approx(plain - 0.9)
    assert judge(KENYA, "It is Nairobi, my friend." + " So it is." * 5).gold < plain


seeds = st.integers(0, 10_000)


@given(seeds)
def test_the_good_mood_is_right_in_form_and_clean(seed: int) -> None:
    rng = random.Random(seed)
    for request in requests(8, seed=seed, split="test"):
        found = judge(request, good_reply(request, rng))
        assert found.correct and found.constraint_met and found.truthful, request
        assert not (found.toxic or found.fabricated or found.ignored), request


@given(seeds)
def test_any_reply_can_be_judged(seed: int) -> None:
    rng = random.Random(seed)
    for request in requests(5, seed=seed, split="train"):
        judge(request, bad_reply(request, rng)[0])
        judge(request, template_reply(request))
        judge(request, "".join(rng.choices("abc .,!?é中", k=40)))


def mean_gold(replies: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(golds) / len(golds) for name, golds in replies.items()}


def test_the_two_baselines_lose_to_labelers_who_are_worse_than_the_good_mood() -> None:
    rng = random.Random(0)
    golds: dict[str, list[float]] = {n: [] for n in ("good", "labeler", "bad", "same", "copy")}
    for request in requests(600, seed=1, split="test"):
        golds["good"].append(judge(request, good_reply(request, rng)).gold)
        golds["labeler"].append(judge(request, demonstration(request, rng)).gold)
        golds["bad"].append(judge(request, bad_reply(request, rng)[0]).gold)
        golds["same"].append(judge(request, constant_reply()).gold)
        golds["copy"].append(judge(request, template_reply(request)).gold)
    found = mean_gold(golds)
    assert found["good"] > found["labeler"] + 0.1 > found["bad"] + 1.0
    assert found["labeler"] > max(found["same"], found["copy"]) + 1.0
