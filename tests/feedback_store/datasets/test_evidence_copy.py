"""Evidence for a cycle elsewhere: who and what is in it, and what is noted of it here."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from feedback_store import ConflictError, FeedbackStore
from feedback_store.datasets.evidence_copy import EMPTIED, new_note
from feedback_store.privacy.copies import rater_hash

HIDDEN = b"parrot"  # a word that no evidence may have

# The tables of a copy, by what a cycle reads; others must be emptied.
KEPT = {
    *("raters", "conversations", "candidates", "messages", "searchable"),
    *("thumbs", "choices", "rankings", "demonstrations", "retries", "comparisons", "unpaired"),
    *("adapters", "serving", "cycles", "audit", "bookkeeping"),
    *("sqlite_sequence", "_sqlite_migrations"),
}


@pytest.fixture
def copied(store, ann, bob, tmp_path):
    """Copies what a cycle reads; the path of the copy."""

    def copy(name: str = "copy.db") -> Path:
        store.copy_evidence(tmp_path / name, unvoted=10)
        return tmp_path / name

    return copy


def test_a_copy_has_votes_and_no_name_key_title_comment_or_reason(store, ann, copied):
    store.make_key("parrot", role="visitor", by="operator")
    reply = ann.reply(ann.ask("what is grass"), "it is green")
    store.add_thumb(reply.id, ann.rater, 1, comment="parrot", tags=["parrot"])
    store.rename_conversation(ann.rater, ann.conversation, "parrot")
    store.quarantine("bob", by="operator", reason="parrot")
    store.release("bob", by="parrot")
    found = copied().read_bytes()
    assert HIDDEN not in found and b"v1" not in found
    assert b"it is green" in found
    with FeedbackStore(copied("again.db")) as copy:
        assert [rater.id for rater in copy.raters()] == ["#000000000"]
        assert copy.counts()["thumbs"] == 1


def test_a_copy_has_nothing_of_who_did_not_agree_and_nothing_that_was_hidden(store, ann, copied):
    silent = store.add_rater("silent").id
    asked = store.add_message(store.add_conversation(silent).id, "user", "parrot one")
    reply = store.add_message(asked.conversation_id, "assistant", "parrot", parent_id=asked.id)
    store.add_thumb(reply.id, silent, 1)
    store.add_thumb(reply.id, ann.rater, -1)
    mine = ann.reply(ann.ask("a question"), "a reply")
    store.add_thumb(mine.id, silent, 1)
    deleted = store.add_conversation(ann.rater).id
    store.add_message(deleted, "user", "parrot two")
    store.delete_conversation(ann.rater, deleted)
    left_out = store.add_conversation(ann.rater).id
    store.add_message(left_out, "user", "parrot three")
    store.leave_out("conversation", [left_out], by="operator", reason="parrot")
    found = copied()
    assert HIDDEN not in found.read_bytes()
    with FeedbackStore(found) as copy:
        assert copy.counts()["thumbs"] == 0


def test_a_reply_that_nobody_judged_stays_and_its_prompt_goes_with_the_evidence(ann, copied):
    ann.reply(ann.ask("what is grass"), "parrot")
    found = copied().read_bytes()
    assert b"what is grass" in found and HIDDEN not in found


def test_every_table_is_known_as_kept_or_emptied_and_the_emptied_are_empty(store, ann, copied):
    ann.choose(ann.shown("a question", "one", "two"), "a")
    store.take_webhook("parrot", lease=timedelta(0))
    with closing(sqlite3.connect(copied())) as copy:
        found = copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name for (name,) in found}
        filled = {t for t in tables if copy.execute(f'SELECT 1 FROM "{t}"').fetchone()}
    assert {"messages", "choices"} <= filled <= KEPT
    assert tables == KEPT | set(EMPTIED)


def test_the_store_itself_is_as_before(store, ann, copied):
    ann.choose(ann.shown("a question", "one", "two"), "a")
    store.refresh_comparisons()
    before = store.counts()
    copied()
    assert store.counts() == before


def test_evidence_gets_no_name_if_somebody_was_forgotten_while_it_was_written(
    store, ann, bob, tmp_path
):
    begun = store.begin_evidence("evidence.tar")
    people = store.copy_evidence(tmp_path / "copy.db", unvoted=10)
    store.forget("bob")
    named = []
    with pytest.raises(ConflictError, match="write it again"):
        store.note_evidence(
            new_note("0" * 64, "token", 0, people),
            "evidence.tar",
            begun=begun,
            publish=lambda: named.append(1),
        )
    assert not named and store.evidence("0" * 64) is None


def test_whose_words_are_in_evidence_is_noted_until_they_are_forgotten(store, ann, bob, tmp_path):
    for chat in (ann, bob):
        chat.choose(chat.shown(f"{chat.rater} asks", "one", "two"), "a")
    begun = store.begin_evidence("evidence.tar")
    people = store.copy_evidence(tmp_path / "copy.db", unvoted=10)
    assert people == (rater_hash("ann"), rater_hash("bob"))
    note = new_note("0" * 64, "token", 0, people)
    store.note_evidence(note, "evidence.tar", begun=begun, publish=lambda: None)
    assert store.evidence("0" * 64) == note
    assert "evidence.tar" in store.known_exports()
    assert store.forgotten_since("0" * 64) == 0
    asked = []
    store.forget("bob", clean=lambda traces: asked.append(traces.exports) or {})
    assert asked[0] == {"evidence.tar"}
    assert store.forgotten_since("0" * 64) == 1
