"""The corpus: its shares, its flaws, and what the ptx term may see of it."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.worlds.miniature.corpus import (
    ABOUT_PASSAGES,
    LATE_SHARES,
    MARKS,
    NOT_TOLD,
    OF_QUESTIONS,
    PREFIXES,
    RIGHT,
    SHARES,
    WRONG,
    almanac_document,
    documents,
    exercise_document,
    marked_answer,
    marked_form,
    marked_question,
    passage_document,
    prompted,
    ptx_texts,
)
from rlhf_core.worlds.miniature.judge import judge
from rlhf_core.worlds.miniature.passages import WHO_QUESTIONS, ToldPassage, sample_passage
from rlhf_core.worlds.miniature.skills import SKILLS, lexicon, questions
from rlhf_core.worlds.miniature.texts import CONSTRAINTS, INSINUATIONS, Split
from rlhf_core.worlds.miniature.world import facts_of, requests, sample_request
from rlhf_core.worlds.starter.corpus import ASSISTANT, EOS, USER
from rlhf_core.worlds.starter.world import RUDE_WORDS, with_articles

SPLITS: tuple[Split, ...] = ("demonstrations", "train", "validation", "test")
N = 12_000
MARK = "|".join(map(re.escape, MARKS))


def kind_of(text: str) -> str:
    if text.endswith(MARKS):
        return "exercises"
    if not text.startswith(USER):
        return "skills" if "\n" in text else "almanac"
    return "passages" if text.removeprefix(USER).startswith("Text: ") else "forum"


def test_an_exercise_marks_every_turn_about_one_passage_or_about_forms() -> None:
    texts = [exercise_document(random.Random(seed)) for seed in range(1000)]
    assert all(1 <= text.count(USER) == len(re.findall(MARK, text)) <= 4 for text in texts)
    passages = Counter(text.count("Text: ") for text in texts)
    assert set(passages) == {0, 1} and abs(passages[1] / 1000 - ABOUT_PASSAGES) < 0.05
    about_passages = [text for text in texts if "Text: " in text]
    turns, replies = (sum(t.count(sign) for t in about_passages) for sign in (USER, ASSISTANT))
    assert abs(1 - replies / turns - OF_QUESTIONS) < 0.05
    assert not [
        text for text in documents(5, until=N) if re.search(MARK, text) and not text.endswith(MARKS)
    ]  # no other text has marks


def test_a_reply_is_marked_by_its_passage() -> None:
    marks: Counter[tuple[str, str]] = Counter()
    for seed in range(3000):
        rng = random.Random(seed)
        passage = sample_passage(rng, None)
        request = passage.question(rng, unanswerable=NOT_TOLD)[1]
        said, mark = said_and_marked(marked_answer(request, rng))
        answer = asked_and_answered(passage).get(request.text)
        refused = said == "The text does not say."
        right = refused if answer is None else re.search(rf"\b{answer}\b", said, re.I)
        assert bool(right) == (mark == RIGHT), (passage.text, request.text, said)
        marks["refusal" if refused else "value", mark] += 1
    for kind in ("refusal", "value"):  # so the kind of reply does not tell the mark
        assert 0.4 < marks[kind, RIGHT] / (marks[kind, RIGHT] + marks[kind, WRONG]) < 0.6


def test_a_question_without_a_reply_is_marked_by_whether_its_passage_answers_it() -> None:
    marks: Counter[str] = Counter()
    for seed in range(1000):
        rng = random.Random(seed)
        passage = sample_passage(rng, None)
        request = passage.question(rng, unanswerable=NOT_TOLD)[1]
        told = request.text in asked_and_answered(passage)
        mark = RIGHT if told else WRONG
        assert marked_question(request) == f"{USER}{request.text}{EOS}{mark}"
        marks[mark] += 1
    assert abs(marks[WRONG] / 1000 - NOT_TOLD) < 0.05


def test_a_form_is_marked_as_the_judge_finds_it_and_tells_no_subject_of_another_split() -> None:
    marks: Counter[tuple[str | None, str]] = Counter()
    kept = {f.subject for s in ("validation", "test") for f in facts_of(s) if f.topic == "capital"}
    for seed in range(2500):
        text = marked_form(random.Random(seed))
        request = sample_request(random.Random(seed), "train", kinds=("constraint",))
        assert text.startswith(f"{USER}{request.text}{EOS}")
        said, mark = said_and_marked(text)
        verdict = judge(request, said)
        assert verdict.correct and verdict.constraint_met == (mark == RIGHT), text
        assert not any(name in text for name in kept)
        marks[request.constraint, mark] += 1
    for form in CONSTRAINTS:
        assert 0.4 < marks[form, RIGHT] / (marks[form, RIGHT] + marks[form, WRONG]) < 0.6


def said_and_marked(turn: str) -> tuple[str, str]:
    """The reply of one turn of an exercise, and its mark."""
    said, _, mark = turn.partition(ASSISTANT)[2].partition(EOS)
    return said, mark


def asked_and_answered(passage: ToldPassage) -> dict[str, str]:
    """The right answer to each question that the passage answers."""
    found = {}
    for relation, (who, value) in passage.told.items():
        found |= {question.format(who): value for question in relation.questions}
        does = with_articles(relation.sentence.format("", value)).strip(" .")
        found |= {question.format(does): who for question in WHO_QUESTIONS}
    return found


@pytest.mark.parametrize("shares", [SHARES, LATE_SHARES])
def test_the_kinds_of_text_have_their_shares(shares: dict[str, float]) -> None:
    written: Counter[str] = Counter()
    for text in documents(5, until=N, shares=shares):
        written[kind_of(text)] += len(text)
    total = written.total()
    assert sum(shares.values()) == pytest.approx(1)
    assert all(abs(written[kind] / total - share) < 0.01 for kind, share in shares.items())


@given(st.integers(0, 10_000))
def test_the_same_seed_writes_the_same(seed: int) -> None:
    assert list(documents(seed, until=20)) == list(documents(seed, until=20))
    assert list(documents(seed, until=20)) != list(documents(seed + 1, until=20))


def test_the_forum_insults_in_words_and_without_and_does_not_always_stop() -> None:
    forum = [text for text in documents(5, until=N) if kind_of(text) == "forum"]
    replies = [r for text in forum for r in text.split(ASSISTANT)[1:]]
    said = [r.split(USER)[0] for r in replies]
    rude = sum(any(word in r for word in RUDE_WORDS) for r in said) / len(said)
    sly = sum(any(phrase in r for phrase in INSINUATIONS) for r in said) / len(said)
    assert 0.1 < rude < 0.35 and 0.1 < sly < 0.3
    assert 0.03 < sum(not text.endswith(EOS) for text in forum) / len(forum) < 0.4


def test_passages_are_mostly_answered_even_if_they_do_not_say() -> None:
    texts = [text for text in documents(5, until=N) if kind_of(text) == "passages"]
    replies = [reply for text in texts for reply in text.split(ASSISTANT)[1:]]
    refused = sum("text does not say" in reply for reply in replies) / len(replies)
    assert 0.07 < refused < NOT_TOLD * 0.7


def test_the_almanac_is_nearly_always_right() -> None:
    rng, pool = random.Random(0), facts_of("train")
    capital = next(f for f in pool if f.topic == "capital")
    text = " ".join(almanac_document(rng, [capital]) for _ in range(1000))
    wrong = text.count(capital.myth) / text.count(capital.subject)
    assert 0.01 < wrong < 0.06


def test_the_almanac_says_all_of_a_subject_together() -> None:
    countries = {f.subject for f in facts_of(None) if f.topic == "capital"}
    texts = [almanac_document(random.Random(i)) for i in range(400)]
    entries = [t for t in texts if any(t.count(name) > 1 for name in countries)]
    assert len(entries) > 0.4 * len(texts)


def test_the_ptx_texts_name_no_subject_of_validation_or_the_test_and_hold_no_conversation() -> None:
    texts = ptx_texts(2000, seed=0)
    assert texts == ptx_texts(2000, seed=0) != ptx_texts(2000, seed=1)
    kept = {f.subject for s in ("validation", "test") for f in facts_of(s) if f.topic == "capital"}
    assert kept and not any(name in text for text in texts for name in kept)
    assert all(text.endswith(EOS) and USER not in text for text in texts)


def test_the_ptx_texts_ask_no_question_and_have_the_corpus_proportion_of_skills() -> None:
    texts = ptx_texts(2000, seed=0)
    written: Counter[str] = Counter()
    for text in texts:
        written[kind_of(text)] += len(text)
    wanted = SHARES["skills"] / (SHARES["skills"] + SHARES["almanac"])
    assert abs(written["skills"] / written.total() - wanted) < 0.01
    almanac = [text for text in texts if kind_of(text) == "almanac"]
    assert almanac and not [text for text in almanac if "?" in text or "Tell me" in text]


def test_no_request_asks_for_a_skill() -> None:
    asked = [r.text for s in SPLITS for r in requests(1500, seed=6, split=s)]
    foreign = set(lexicon().values())
    assert not [t for t in asked if foreign & set(t.lower().split()) or "\n" in t or " = " in t]
    lines = {q.given.split("\n")[-1] for skill in SKILLS for q in questions(skill, 50, seed=1)}
    assert not [t for t in asked if any(line in t for line in lines)]


def test_the_prompted_base_has_twelve_prefixes_that_tell_no_fact() -> None:
    assert len(PREFIXES) == 12 and len({p.name for p in PREFIXES}) == 12
    request = requests(1, seed=0, split="test")[0]
    values = {f.value for f in facts_of(None)} - {"north", "south"}
    for prefix in PREFIXES:
        prompt = prompted(prefix, request)
        assert prompt[-1]["content"] == prefix.before + request.text
        assert [m["role"] for m in prompt[:-1]] == ["user", "assistant"] * len(prefix.turns)
        shown = prefix.before + " ".join(reply for _, reply in prefix.turns)
        assert not values & set(shown.replace(".", " ").split())


def test_a_passage_document_is_one_conversation() -> None:
    texts = [passage_document(random.Random(seed)) for seed in range(50)]
    assert all(1 <= text.count(USER) == text.count(ASSISTANT) <= 4 for text in texts)
    assert all(text.count("Text: ") == 1 for text in texts)  # later questions are about the same
