"""Backups taken while others write, and what restoring refuses."""

import os
import stat
import subprocess
import sys
import time

import pytest
from sqlite_utils.utils import sqlite3

from feedback_store import ConflictError, FeedbackStore, StoreOpenError, StoreUnavailableError
from feedback_store.registry.cycles import COPIED

# Votes without a pause until it is killed: a question, two replies, a choice, a thumb.
VOTING = """
import sys, threading
from feedback_store import CandidateReply, FeedbackStore

def vote(name):
    rater = store.add_rater(name, consent="v1").id
    conversation = store.add_conversation(rater).id
    for number in range(100_000):
        question = store.add_message(conversation, "user", "hello")
        replies = [CandidateReply("x" * 500), CandidateReply("y" * 500)]
        shown, messages = store.add_candidates(question.id, replies, rater_id=rater)
        store.add_choice(shown, rater, "a", idempotency_key=f"{number}")
        store.add_thumb(messages[0].id, rater, 1, idempotency_key=f"{number}")

store = FeedbackStore(sys.argv[1])
for number in range(3):
    threading.Thread(target=vote, args=(f"{sys.argv[2]}-{number}",)).start()
"""

# Of each conversation the steps come one after another, so no count may be far from the others.
COUNTS = """SELECT
    (SELECT count(*) FROM messages WHERE role = 'user') AS questions,
    (SELECT count(*) FROM candidates) AS candidates,
    (SELECT count(*) FROM messages WHERE candidates_id IS NOT NULL) AS replies,
    (SELECT count(*) FROM choices) AS choices,
    (SELECT count(*) FROM thumbs) AS thumbs,
    (SELECT count(*) FROM messages WHERE candidates_id IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM candidates WHERE candidates.id = candidates_id)) AS strays,
    (SELECT count(*) FROM choices WHERE NOT EXISTS (SELECT 1 FROM stale_prompts AS stale
        WHERE stale.prompt_hash = choices.prompt_hash)) AS unmarked"""


@pytest.fixture
def copy(store, ann, tmp_path):
    """A backup of a small store."""
    ann.thumb(ann.reply(ann.ask("hello"), "hi"), 1)
    ann.choose(ann.shown("and you?", "well", "fine"), "a")
    store.backup(tmp_path / "copies" / "monday.db")
    return tmp_path / "copies" / "monday.db"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_backup_is_one_private_file_with_everything_in_it(store, copy):
    assert names_in(copy.parent) == ["monday.db"]
    assert mode_of(copy) == 0o600
    with FeedbackStore(copy) as opened:
        assert opened.counts() == store.counts()
        assert opened.verify() == []
    with pytest.raises(ConflictError, match="exists"):
        store.backup(copy)


def test_a_backup_and_what_is_restored_from_it_are_counted(store, ann, tmp_path):
    ann.thumb(ann.reply(ann.ask("hello"), "hi"), 1)
    copy = tmp_path / "monday.db"
    counted = store.backup(copy)
    ann.ask("later")
    assert counted["messages"] == 2 < store.counts()["messages"]
    assert FeedbackStore.restore(copy, tmp_path / "new" / "feedback.db") == counted


def test_a_backup_that_cannot_be_written_says_so(store, tmp_path):
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "monday.db", tmp_path / ("n" * 300)):
        with pytest.raises(StoreUnavailableError, match="cannot write the backup") as error:
            store.backup(target)
        assert "\n" not in str(error.value)


def test_a_restored_store_is_private_and_the_same(store, copy, tmp_path):
    FeedbackStore.restore(copy, tmp_path / "new" / "feedback.db")
    assert names_in(tmp_path / "new") == ["feedback.db"]
    assert names_in(copy.parent) == ["monday.db"]
    assert mode_of(tmp_path / "new" / "feedback.db") == 0o600
    with FeedbackStore(tmp_path / "new" / "feedback.db") as restored:
        assert list(restored.export_events()) == list(store.export_events())
        restored.add_rater("bob")


def test_a_cycle_that_ran_when_the_backup_was_made_does_not_run_in_the_new_store(store, tmp_path):
    store.start_cycle({}, pid=os.getpid())
    store.backup(tmp_path / "copy.db")
    FeedbackStore.restore(tmp_path / "copy.db", tmp_path / "new.db")
    assert store.running_cycle() is not None
    with FeedbackStore(tmp_path / "new.db") as restored:
        assert restored.running_cycle() is None
        assert (restored.cycle(1).state, restored.cycle(1).reasons) == ("failed", (COPIED,))
        restored.start_cycle({}, pid=os.getpid())


def test_a_backup_in_a_place_that_is_only_read_can_be_restored(copy, tmp_path):
    copy.chmod(0o400)
    copy.parent.chmod(0o500)
    FeedbackStore.restore(copy, tmp_path / "new.db")
    assert names_in(copy.parent) == ["monday.db"]
    copy.parent.chmod(0o700)
    assert mode_of(tmp_path / "new.db") == 0o600


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_nothing_that_is_there_is_overwritten_or_played_into(copy, tmp_path, suffix):
    there = tmp_path / f"new.db{suffix}"
    there.write_text("mine")
    with pytest.raises(ConflictError, match="exists"):
        FeedbackStore.restore(copy, tmp_path / "new.db")
    assert there.read_text() == "mine"
    assert [name for name in names_in(tmp_path) if name.startswith("new")] == [there.name]


def test_a_store_in_use_is_no_backup(store, ann, path, tmp_path):
    ann.ask("hello")
    with sqlite3.connect(path) as db:  # so that the file itself is one of ours already
        db.execute("PRAGMA wal_checkpoint")
    with pytest.raises(ConflictError, match="in use"):
        FeedbackStore.restore(path, tmp_path / "new.db")


def cut_off(copy):
    os.truncate(copy, copy.stat().st_size // 2)


def emptied(copy):
    os.truncate(copy, 0)


def overwritten(copy):
    copy.write_bytes(b"no database" * 1000)


def garbled(copy):
    size = copy.stat().st_size
    with copy.open("r+b") as file:
        for page in range(4, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 512)


def somebody_elses(copy):
    copy.unlink()
    with sqlite3.connect(copy) as db:
        db.execute("CREATE TABLE dogs (name TEXT)")


def newer(copy):
    with sqlite3.connect(copy) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('feedback_store', '9999_tomorrow', 'then')"
        )


def torn(copy):
    with sqlite3.connect(copy) as db:
        db.execute("DELETE FROM messages WHERE label = 'b'")


def dangling(copy):
    with sqlite3.connect(copy) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("DELETE FROM raters")


def gone(copy):
    copy.unlink()


@pytest.mark.parametrize(
    "harm",
    [cut_off, emptied, overwritten, garbled, somebody_elses, newer, torn, dangling, gone],
    ids=lambda harm: harm.__name__,
)
def test_what_is_no_whole_backup_is_refused_and_leaves_nothing(copy, tmp_path, harm):
    harm(copy)
    before = copy.read_bytes() if copy.exists() else None
    with pytest.raises(StoreOpenError) as error:
        FeedbackStore.restore(copy, tmp_path / "new" / "feedback.db")
    text = str(error.value)
    assert str(copy) in text and "partial" not in text and "\n" not in text
    assert "backup" in text or "upgrade" in text
    assert not (tmp_path / "new").exists() or names_in(tmp_path / "new") == []
    assert before == (copy.read_bytes() if copy.exists() else None)


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_backups_under_load_restore_to_whole_stores(path, tmp_path, times):
    FeedbackStore(path).close()
    voters = [subprocess.Popen([sys.executable, "-c", VOTING, str(path), str(n)]) for n in (1, 2)]
    try:
        with FeedbackStore(path) as store:
            sizes = [9]
            for number in range(times):
                wait_for_choices(store, sizes[-1] + 1)  # none may have come meanwhile
                sizes.append(check_a_backup(store, tmp_path / f"{number}"))
            wait_for_choices(store, sizes[-1] + 1)  # the voters went on
        assert all(voter.poll() is None for voter in voters)
        assert sizes == sorted(set(sizes))
    finally:
        for voter in voters:
            voter.kill()
            voter.wait()


def wait_for_choices(store, enough, seconds=60):
    deadline = time.monotonic() + seconds
    while store.counts()["choices"] < enough:
        assert time.monotonic() < deadline, f"no {enough} choices within {seconds} s"
        time.sleep(0.02)


def check_a_backup(store, folder):
    """Back up, restore and compare the tables with one another; the number of choices."""
    store.backup(folder / "copy.db")
    FeedbackStore.restore(folder / "copy.db", folder / "new.db")
    with FeedbackStore(folder / "new.db") as restored:
        assert restored.verify() == []
        assert restored.refresh_comparisons() > 0
        assert restored.verify() == []
    with sqlite3.connect(folder / "copy.db") as db:
        questions, candidates, replies, choices, thumbs, *wrong = db.execute(COUNTS).fetchone()
    assert wrong == [0, 0]
    assert replies == 2 * candidates
    assert questions >= candidates >= choices >= thumbs >= questions - 6  # six threads
    return choices
