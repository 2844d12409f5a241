"""The splits, which are what makes a measurement on the test split mean something."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.errors import InvalidInputError
from rlhf_core.worlds.miniature.passages import RELATIONS, UNANSWERABLE, names
from rlhf_core.worlds.miniature.texts import (
    ASKED,
    CONSTRAINTS,
    LIST_WORDINGS,
    LISTED,
    PREMISES,
    REWRITES,
    STYLES,
    WRAPPERS,
    Split,
    chats,
    lists,
    unknowns,
    wordings_of,
)
from rlhf_core.worlds.miniature.world import (
    CUSTOMERS,
    MIX,
    TOPICS,
    facts_of,
    favourites,
    requests,
)
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.world import QUESTIONS

SPLITS: tuple[Split, ...] = ("demonstrations", "train", "validation", "test")
TABLES = (
    *ASKED.values(),
    *CONSTRAINTS.values(),
    STYLES["respectful"],
    STYLES["rude"],
    PREMISES,
    REWRITES,
    WRAPPERS,
    LIST_WORDINGS,
)


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_splits_share_no_subject_no_customer_and_no_person(one: Split, other: Split) -> None:
    subjects = [{word for f in facts_of(s) for word in (f.subject,)} for s in (one, other)]
    assert all(subjects) and not subjects[0] & subjects[1]
    families = [{f.family for f in facts_of(s)} for s in (one, other)]
    assert not families[0] & families[1]
    assert not set(CUSTOMERS[one]) & set(CUSTOMERS[other])
    assert not set(names(one)) & set(names(other))


@pytest.mark.parametrize("one", ("demonstrations", "train", "validation"))
def test_the_wordings_of_the_test_are_in_no_other_split(one: Split) -> None:
    for table in TABLES:
        assert wordings_of(table, one) and len(wordings_of(table, "test")) == 1
        assert not set(wordings_of(table, one)) & set(wordings_of(table, "test"))
    assert not set(chats(one)) & set(chats("test"))
    assert not set(unknowns(one)) & set(unknowns("test"))
    assert not set(lists(one)) & set(lists("test"))


def test_nothing_is_tested_on_which_the_world_was_tuned() -> None:
    """Once the starter's test subjects and each table's fourth wording were the test."""
    assert not {f.family for f in facts_of("test")} & {f.family for f in facts("test")}
    for topic, table in ASKED.items():
        assert not set(wordings_of(table, "test")) & set(QUESTIONS[topic])
    assert not {"cities"} & set(lists("test")) and set(lists("test")) <= set(LISTED)
    assert not {"Good morning.", "Thank you!"} & set(chats("test"))
    assert not {"Tell me a joke.", "How old are you?"} & set(unknowns("test"))
    assert not {"Omar", "Ella", "Leo", "Ida", "Finn"} & set(names("test"))


def test_the_test_asks_about_enough_different_things() -> None:
    """Else many requests would be few pieces of evidence."""
    assert len({f.family for f in facts_of("test")}) >= 35
    assert min(len(lists("test")), len(chats("test"))) >= 4
    for seed in (1, 2, 3):
        mixed = requests(600, seed=seed, split="test")
        assert len({r.cluster for r in mixed}) >= 75 and len({r.text for r in mixed}) >= 340


def test_what_is_asked_of_one_subject_is_one_cluster() -> None:
    asked = requests(400, seed=1, split="test")
    assert all(r.cluster == (r.subject or r.text) for r in asked)
    listed = [r for r in asked if r.kind == "list"]
    assert listed and {r.cluster for r in listed} <= set(lists("test"))


def test_validation_has_wordings_of_its_own() -> None:
    for table in TABLES:
        assert not set(wordings_of(table, "validation")) & set(wordings_of(table, "train"))


def test_every_topic_is_in_every_split() -> None:
    assert all({f.topic for f in facts_of(split)} == set(TOPICS) for split in SPLITS)


@pytest.mark.parametrize("split", SPLITS)
def test_no_question_of_a_split_has_the_words_of_a_test_question(split: Split) -> None:
    """The invariant once more, on texts as they are asked."""
    if split == "test":
        return
    asked = {r.text for r in requests(1500, seed=3, split=split)}
    assert not asked & {r.text for r in requests(1500, seed=3, split="test")}


@given(st.integers(0, 10_000), st.sampled_from(SPLITS))
def test_the_same_seed_asks_the_same(seed: int, split: Split) -> None:
    assert requests(5, seed=seed, split=split) == requests(5, seed=seed, split=split)
    assert requests(5, seed=seed, split=split) != requests(5, seed=seed + 1, split=split)


@given(st.integers(0, 10_000), st.sampled_from(SPLITS))
def test_a_request_is_by_a_customer_of_its_split_about_its_subject(seed: int, split: Split) -> None:
    people = {f"customer-{i:02}" for i in CUSTOMERS[split]}
    families = {f.family for f in facts_of(split)} | {"", *lists(split)}
    families |= {one.sentence.format(who, "{}") for one in RELATIONS for who in names(split)}
    for request in requests(20, seed=seed, split=split):
        assert request.user in people and request.subject in families
        assert request.text and not set(request.answers) & set(request.wrong)


def test_kinds_come_in_their_shares_and_only_those_asked_for() -> None:
    found = [r.kind for r in requests(4000, seed=1, split="train")]
    assert all(abs(found.count(kind) / 4000 - share) < 0.03 for kind, share in MIX.items())
    assert {r.kind for r in requests(50, seed=1, split="test", kinds=["passage"])} == {"passage"}


def test_two_fifths_of_the_passages_do_not_answer() -> None:
    asked = requests(2000, seed=1, split="test", kinds=["passage"])
    share = sum(not r.answerable for r in asked) / len(asked)
    assert abs(share - UNANSWERABLE) < 0.04
    assert {r.subject for r in asked} <= {r.subject for r in requests(4000, seed=2, split="test")}


def test_everybody_who_is_asked_about_is_in_the_passage_so_a_name_alone_tells_nothing() -> None:
    for r in requests(500, seed=1, split="test", kinds=["passage"]):
        *told, question = r.text.split(". ")
        who = [name for name in names("test") if name in question]
        assert all(any(name in sentence for sentence in told) for name in who)


def test_a_tone_is_asked_for_in_words_and_nothing_else_changes() -> None:
    plain, rude = (requests(30, seed=4, split="test", style=s) for s in ("none", "rude"))
    assert [r.answers for r in plain] == [r.answers for r in rude]
    said = STYLES["rude"][-1]
    assert all(r.text == said.format(p.text) for p, r in zip(plain, rude, strict=True))


def test_customers_have_favourite_topics() -> None:
    asked = requests(6000, seed=2, split="train", kinds=["question"])
    liked = sum(r.topic in favourites(r.user) for r in asked) / len(asked)
    assert liked > 0.55  # three topics of eight


def test_a_wrong_kind_is_refused_in_words() -> None:
    with pytest.raises(InvalidInputError, match="of the kinds"):
        requests(3, seed=0, split="train", kinds=["poems"])  # type: ignore[list-item]


def test_a_passage_tells_each_kind_of_thing_once() -> None:
    """So that finding the only value of the kind is reading enough for most questions."""
    for r in requests(500, seed=1, split="test", kinds=["passage"]):
        inside = [value for value in (*r.answers, *r.wrong) if value in r.text]
        if r.answerable and r.answers[0] not in names("test"):
            assert inside == [*r.answers]
        if not r.answerable:
            assert len(inside) <= 1  # of another
