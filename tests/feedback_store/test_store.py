import os
import sqlite3
import stat
import subprocess
import sys

import pytest
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3 as sqlite3_in_use

from feedback_store import (
    BASE_ADAPTER,
    FeedbackStore,
    FeedbackStoreError,
    StoreOpenError,
    StoreUnavailableError,
)
from feedback_store.sqlite import database
from feedback_store.sqlite.database import BUSY_TIMEOUT_MS, OLDEST_SAFE_SQLITE, settings_of
from feedback_store.sqlite.migrations import APPLICATION_ID, known_migrations

WITHOUT_PYSQLITE = """
import sys
sys.modules["pysqlite3"] = None  # sqlite-utils then falls back to the system's SQLite
from feedback_store import FeedbackStore, StoreOpenError
try:
    with FeedbackStore(sys.argv[1], allow_old_sqlite=len(sys.argv) > 2) as store:
        rater = store.add_rater(consent="v1").id
        prompt = [{"role": "user", "content": "hello"}]
        store.add_demonstration(rater, "hi", prompt=prompt, idempotency_key="k")
        store.refresh_comparisons()
        print(len(store.comparisons()), len(store.feedback_of(rater)))
        store.forget(rater)
except StoreOpenError as exc:
    print(exc)
"""


def one_line(error: pytest.ExceptionInfo[FeedbackStoreError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def pragma(store, name):
    with store._file.write() as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_fresh_store_serves_the_base(store):
    assert store.serving().adapter == BASE_ADAPTER == "policy-000000"
    assert store.adapter(BASE_ADAPTER).state == "published"
    assert store.last_cycle() is None
    assert store.verify() == []


def test_counts_have_exactly_the_keys_of_the_status_contract(store):
    assert store.counts() == dict.fromkeys(
        (
            "raters",
            "messages",
            "thumbs",
            "choices",
            "demonstrations",
            "comparisons",
            "unused_comparisons",
        ),
        0,
    )


def test_every_commit_is_durable_and_every_deletion_thorough(store):
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "synchronous") == 2
    assert pragma(store, "foreign_keys") == 1
    assert pragma(store, "secure_delete") == 1
    assert pragma(store, "busy_timeout") == BUSY_TIMEOUT_MS >= 5000


def test_every_connection_has_the_settings_that_it_was_opened_for(store):
    with store._file.read() as reader, store._file.long_read() as other:
        for db in (reader, other):
            found = settings_of(db)
            assert found["query_only"] == 1
            assert (found["synchronous"], found["foreign_keys"]) == (2, 1)
    with store._file.write() as writer:
        assert settings_of(writer)["query_only"] == 0


def test_a_setting_that_is_not_taken_is_refused(path, monkeypatch):
    monkeypatch.setitem(database._SETTINGS, "page_count", 12)  # cannot be set, only asked
    with pytest.raises(StoreOpenError, match="does not take page_count = 12") as error:
        FeedbackStore(path)
    one_line(error)


def test_reads_cannot_write(store):
    with pytest.raises(StoreUnavailableError, match="readonly"), store._file.read() as db:
        db.execute("DELETE FROM adapters")


def test_the_file_is_private(store, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_reopening_finds_everything(store, path, ann):
    ann.ask("hello")
    store.close()
    with FeedbackStore(str(path)) as again:
        assert [message.content for message in again.messages(ann.conversation)] == ["hello"]


@pytest.mark.parametrize("flags", [[], ["allow"]])
def test_an_old_sqlite_is_refused_unless_allowed(path, flags):
    command = [sys.executable, "-c", WITHOUT_PYSQLITE, str(path), *flags]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if flags or sqlite3.sqlite_version_info >= OLDEST_SAFE_SQLITE:
        assert said == "0 1"
    else:
        assert said.startswith(f"SQLite {sqlite3.sqlite_version} can corrupt a database")
        assert not path.exists()


def test_a_newer_database_is_refused_and_left_alone(store, path):
    store.close()
    with Database(path) as db:
        db.table("_sqlite_migrations").insert(
            {"migration_set": "feedback_store", "name": "9999_tomorrow", "applied_at": "then"}
        )
    before = path.read_bytes()
    with pytest.raises(StoreOpenError, match=r"newer version.*9999_tomorrow.*upgrade") as error:
        FeedbackStore(path)
    one_line(error)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(StoreOpenError, match="not a database") as error:
        FeedbackStore(path)
    one_line(error)
    assert path.read_text() == "these are my notes\n" * 100


def test_somebody_elses_database_is_refused_and_left_alone(path):
    with Database(path) as db:
        db.table("dogs").insert({"name": "Cleo"})
    before = path.read_bytes()
    with pytest.raises(StoreOpenError, match="not a feedback database"):
        FeedbackStore(path)
    assert path.read_bytes() == before


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreOpenError, match="choose a data directory") as error:
        FeedbackStore(tmp_path / "file" / "feedback.db")
    one_line(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreOpenError, match="choose a data directory"):
        FeedbackStore(tmp_path / "feedback.db")


def test_a_directory_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(StoreOpenError):
        FeedbackStore(tmp_path)


def test_memory_is_refused():
    with pytest.raises(StoreOpenError, match="would not last"):
        FeedbackStore(":memory:")


def test_a_closed_store_says_so(store):
    store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.serving()
    store.close()


def test_a_write_that_fails_leaves_nothing(store, ann):
    before = store.counts()
    with pytest.raises(RuntimeError), store._file.write():
        ann.ask("one")
        raise RuntimeError
    assert store.counts() == before
    ann.ask("two")
    assert store.counts()["messages"] == 1


def test_verify_names_damage(store, ann, path):
    ann.ask("hello")
    store.close()
    with Database(path) as db:
        assert db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("DELETE FROM conversations")
    with FeedbackStore(path) as damaged:
        assert damaged.verify() == ["row 1 of messages refers to a missing one in conversations"]


def test_verify_names_candidates_without_replies_and_comparisons_without_texts(store, ann, path):
    ann.choose(ann.shown("hello", "hi", "well"), "a")
    store.refresh_comparisons()
    name = store.comparisons()[0].id
    assert store.verify() == []
    with Database(path) as db:
        db.execute("UPDATE messages SET candidates_id = NULL, label = NULL WHERE label = 'b'")
        db.execute("UPDATE comparisons SET b = 'nowhere'")
    damage = store.verify()
    assert [line for line in damage if line.endswith("have 1 replies")]
    assert f"comparison {name} refers to texts that are missing" in damage


def test_the_condition_names_what_an_operator_asks_for(store, ann):
    ann.choose(ann.shown("hello", "hi", "well"), "a")
    found = store.condition()
    assert found["schema"] == max(known_migrations())
    assert found["sqlite"] == sqlite3_in_use.sqlite_version
    assert (found["settings"]["synchronous"], found["settings"]["journal_mode"]) == (2, "wal")
    assert found["file_bytes"] > 0 and found["wal_bytes"] > 0
    assert found["stale"] == 1
    store.refresh_comparisons()
    assert store.condition()["stale"] == 0
