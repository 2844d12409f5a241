"""Screening: a test whose answers the team knows, before somebody labels."""

import sqlite3
from pathlib import Path

import pytest

from feedback_store import ConflictError, FeedbackStore, PromptMessage
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.raters.screening import Screened, guessing_passes
from tests.feedback_store.conftest import Chat

ITEMS = [
    GoldItem((PromptMessage(role="user", content=f"test {number}"),), "right", "wrong")
    for number in range(10)
]


def take(store: FeedbackStore, rater: str, right: int, questions: int = 10) -> None:
    """Answer questions of the test, so many of them as the team does."""
    for number in range(questions):
        shown = store.gold_question(rater, ITEMS, every=None)
        assert shown is not None
        wanted = "right" if number < right else "wrong"
        label = next(m.label for m in store.candidates(shown) if m.content == wanted)
        store.add_choice(shown, rater, label)
    store.note_screened(store.screened(ITEMS, share=0.8), by="test")


def test_the_test_is_given_at_once_and_each_question_once(store: FeedbackStore, ann: Chat) -> None:
    take(store, "ann", 3, questions=4)
    assert store.screened(ITEMS, share=0.8) == [Screened("ann", 4, 10, 3, None)]
    assert store.has_passed("ann") is None, "it is not finished"
    take(store, "ann", 6, questions=6)
    assert store.screened(ITEMS, share=0.8) == [Screened("ann", 10, 10, 9, True)]
    assert store.gold_question("ann", ITEMS, every=None) is None
    assert store.counts()["comparisons"] == 0, "answers are no votes"


@pytest.mark.parametrize(("right", "passed"), [(8, True), (7, False)])
def test_the_share_is_reached_exactly_or_not(store: FeedbackStore, ann: Chat, right, passed):
    take(store, "ann", right)
    assert store.has_passed("ann") is passed
    (entry,) = [e for e in store.audit_log() if e.action == "screened"]
    assert entry.detail["right"] == right and entry.detail["passed"] is passed


def test_an_answer_that_was_changed_counts_as_it_was_first(store: FeedbackStore, ann: Chat) -> None:
    shown = store.gold_question("ann", ITEMS, every=None)
    labels = {m.content: m.label for m in store.candidates(shown)}
    for text in ("wrong", "right"):
        store.add_choice(shown, "ann", labels[text])
    assert store.screened(ITEMS, share=0.8) == [Screened("ann", 1, 10, 0, None)]


def test_votes_of_others_count_as_before_unless_screening_is_required(
    store: FeedbackStore, ann: Chat, bob: Chat
) -> None:
    for chat in (ann, bob):
        chat.choose(chat.shown(f"{chat.rater} asks", "one", "another"), "a")
    take(store, "ann", 9)
    take(store, "bob", 1)
    store.refresh_comparisons()
    assert {one.rater_id for one in store.comparisons()} == {"ann", "bob"}
    store.require_screening(on=True)
    assert {one.rater_id for one in store.comparisons()} == {"ann"}
    assert "1 comparisons of 1 rater who have not passed the screening" in str(
        store.left_out().lines()
    )
    why = [one["left_out"] for one in store.feedback_of("bob")]
    assert "you have not passed the test of this service's team" in why
    assert {one.id: one.weight for one in store.raters()} == {"ann": 1.0, "bob": 0.0}
    store.require_screening(on=False)
    assert {one.rater_id for one in store.comparisons()} == {"ann", "bob"}


def test_raters_of_imported_data_take_no_test(store: FeedbackStore) -> None:
    store.add_rater("pandalm:1", consent="dataset:pandalm")
    imported = Chat.__new__(Chat)
    imported.store, imported.rater, imported._keys = store, "pandalm:1", 0
    imported.conversation = store.add_conversation("pandalm:1").id
    imported.choose(imported.shown("asked", "one", "another"), "a")
    store.refresh_comparisons()
    store.require_screening(on=True)
    assert [one.rater_id for one in store.comparisons()] == ["pandalm:1"]
    assert store.feedback_of("pandalm:1")[0]["left_out"] is None


def test_only_what_is_heard_from_now_on_is_new(store: FeedbackStore, ann: Chat, bob: Chat) -> None:
    for chat in (ann, bob):
        chat.choose(chat.shown(f"{chat.rater} asks", "one", "another"), "a")
    store.refresh_comparisons()
    take(store, "ann", 9)
    assert store.last_numbers()["comparisons"] == 2, "ann was heard all along"
    store.require_screening(on=True)
    assert store.last_numbers()["comparisons"] == 2
    take(store, "bob", 9)
    assert store.last_numbers()["comparisons"] == 3


def test_who_waited_for_the_test_is_new_when_it_is_no_longer_required(
    store: FeedbackStore, ann: Chat, bob: Chat
) -> None:
    store.require_screening(on=True)
    for chat in (ann, bob):
        chat.choose(chat.shown(f"{chat.rater} asks", "one", "another"), "a")
    store.refresh_comparisons()
    take(store, "ann", 9)
    before = store.last_numbers()["comparisons"]
    store.require_screening(on=False)
    assert store.last_numbers()["comparisons"] == before + 1, "ann was heard, bob was not"


def test_a_result_that_is_known_needs_no_write(store: FeedbackStore, ann: Chat, path: Path) -> None:
    take(store, "ann", 9)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # nobody else can write
    store.note_screened(store.screened(ITEMS, share=0.8), by="test")
    other.close()


def test_a_labelers_key_counts_as_passed_by_the_rater_who_took_the_test(
    store: FeedbackStore, ann: Chat
) -> None:
    with pytest.raises(ConflictError, match="'ann' has not passed"):
        store.make_key("lena", role="labeler", passed=("ann", "key-lena"), by="operator")
    assert store.keys() == []
    take(store, "ann", 9)
    store.make_key("lena", role="labeler", passed=("ann", "key-lena"), by="operator")
    assert store.has_passed("key-lena") is True
    entries = [(one.action, one.detail) for one in store.audit_log()]
    assert ("labeler_key", {"rater_id": "ann", "name": "lena", "by": "operator"}) in entries
    lena = {"rater_id": "key-lena", "by": "operator", "passed": True, "key": "lena"}
    assert ("screened", lena) in entries


def test_who_passed_opens_one_key_at_a_time(store: FeedbackStore, ann: Chat) -> None:
    take(store, "ann", 9)
    store.make_key("lena", role="labeler", passed=("ann", "key-lena"), by="operator")
    with pytest.raises(ConflictError, match="labels with the key 'lena'"):
        store.make_key("max", role="labeler", passed=("ann", "key-max"), by="operator")
    assert store.has_passed("key-max") is None
    store.revoke_key("lena", by="operator")
    store.make_key("max", role="labeler", passed=("ann", "key-max"), by="operator")


def test_guessing_passes_a_short_test_too_often():
    assert guessing_passes(4, 0.75) == pytest.approx(5 / 16)
    assert guessing_passes(20, 0.75) == pytest.approx(0.0207, abs=1e-4)
