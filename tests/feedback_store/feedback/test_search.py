"""Search finds what was said, only that, and nothing that was erased."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlite_utils.utils import sqlite3

from feedback_store import FeedbackStore, InvalidFeedbackError
from feedback_store.feedback.search import MOST_HITS

RELEASED = sorted((Path(__file__).parents[1] / "released").glob("*.sql"))


def texts(store, query):
    return {store.message(hit.message_id).content for hit in store.search(query)}


def index_is_whole(store):
    """Compare the index with the messages, word by word; raises if they differ."""
    with store._file.write() as db:
        db.execute(
            "INSERT INTO message_search (message_search, rank) VALUES ('integrity-check', 1)"
        )
        numbered = db.execute("SELECT count(*) FROM searchable").fetchone()[0]
        assert numbered == db.execute("SELECT count(*) FROM messages").fetchone()[0]


def test_all_words_must_be_there_whatever_case_and_accents(store, ann):
    for text in ("Un café à Zürich", "a cafe in Lyon", "tea in Zurich"):
        ann.ask(text)
    assert texts(store, "CAFE zurich") == {"Un café à Zürich"}
    assert texts(store, "café") == {"Un café à Zürich", "a cafe in Lyon"}
    assert texts(store, "coffee") == set()


def test_a_hit_says_where_and_by_whom_and_the_better_come_first(store, ann, bob):
    bob.ask("the weather, and much else that has nothing to do with it at all " * 3)
    best = ann.ask("weather weather")
    hits = store.search("weather")
    assert (hits[0].message_id, hits[0].conversation_id) == (best.id, ann.conversation)
    assert (hits[0].rater_id, hits[0].role, hits[0].created_at) == ("ann", "user", best.created_at)
    assert hits[0].snippet == "[weather] [weather]"
    assert [hit.rank for hit in hits] == sorted(hit.rank for hit in hits)
    assert hits[1].rater_id == "bob"
    assert store.search("weather", limit=1) == hits[:1]


def test_what_looks_like_syntax_is_only_text(store, ann):
    ann.ask('say "yes" OR no* NEAR(here)')
    ann.ask("nothing")
    for query in ('"yes" OR no*', "NEAR(here)", 'content : "say', "- yes", "yes AND", '"', "*"):
        assert texts(store, query) <= {'say "yes" OR no* NEAR(here)'}
    assert texts(store, "yes OR nothing") == set()
    assert texts(store, 'say "yes"') == {'say "yes" OR no* NEAR(here)'}


ONE_STORE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(ONE_STORE, max_examples=200)
@given(said=st.text(min_size=1, max_size=40), query=st.text(max_size=40))
def test_any_text_is_safe_to_look_for(ann, said, query):
    try:
        ann.ask(said)
        found = ann.store.search(query)
    except InvalidFeedbackError:  # it cannot be stored, or there is nothing to look for
        return
    assert len(found) <= 50


@settings(ONE_STORE, max_examples=100)
@given(word=st.text(st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=12))
def test_a_word_that_was_said_is_found(ann, word):
    said = ann.ask(f"before, {word}; after")
    assert said.id in {hit.message_id for hit in ann.store.search(word, limit=MOST_HITS)}


@pytest.mark.parametrize("query", ["", "   ", "\0", " ".join(map(str, range(65)))])
def test_a_search_for_nothing_or_too_much_is_refused(store, query):
    with pytest.raises(InvalidFeedbackError, match="words"):
        store.search(query)


@pytest.mark.parametrize("limit", [0, -1, MOST_HITS + 1])
def test_a_senseless_limit_is_refused(store, limit):
    with pytest.raises(InvalidFeedbackError, match="hits"):
        store.search("word", limit=limit)


def test_the_index_follows_what_is_erased(store, ann, bob, path):
    for number in range(50):
        ann.ask(f"magpie{number} common")
        bob.ask(f"harmless{number} common")
    store.forget(ann.rater)
    index_is_whole(store)
    assert store.search("magpie7") == []
    assert texts(store, "harmless7") == {"harmless7 common"}
    assert len(store.search("common")) == 50
    files = path.parent.glob("feedback.db*")
    assert not any(b"magpie" in file.read_bytes() for file in files)


def test_the_words_are_out_of_the_index_before_it_is_compacted(store, ann, path):
    ann.ask("magpieword")
    with store._file.write() as db:
        db.execute("DELETE FROM messages")
        db.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, message_search, row)")
        assert db.execute("SELECT count(*) FROM words").fetchone()[0] == 0


def test_an_undone_write_is_not_found(store, ann):
    with pytest.raises(RuntimeError, match="never"), store._file.write():
        ann.ask("phantom")
        raise RuntimeError("never")
    assert store.search("phantom") == []
    index_is_whole(store)


def test_a_backup_is_searched_like_its_original(store, ann, bob, tmp_path):
    for number in range(30):
        (ann if number % 3 else bob).ask(f"number {number}")
    store.forget(bob.rater)
    for number in range(30, 40):
        ann.ask(f"number {number}")
    store.backup(tmp_path / "copy.db")
    with FeedbackStore(tmp_path / "copy.db") as copy:
        index_is_whole(copy)
        assert copy.search("number") == store.search("number")
        copy.compact()
        copy.add_message(ann.conversation, "user", "number and more")
        index_is_whole(copy)
        assert len(copy.search("number")) == 31


@pytest.mark.parametrize("released", RELEASED, ids=lambda file: file.stem)
def test_messages_of_an_old_version_are_found(path, released):
    connection = sqlite3.connect(path)
    connection.executescript(released.read_text())
    connection.close()
    with FeedbackStore(path) as store:
        index_is_whole(store)
        with store._file.read() as db:
            said = db.execute("SELECT id, content FROM messages LIMIT 5").fetchall()
        for message_id, content in said:
            found = {hit.message_id for hit in store.search(content, limit=MOST_HITS)}
            assert message_id in found
