"""Real processes on one file: killed, racing, and writing at once.

The processes are forked by a fresh interpreter that has imported the store but opened nothing.
"""

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from feedback_store import FeedbackStore
from feedback_store.sqlite.migrations import known_migrations

RELEASED = Path(__file__).parents[1] / "released"
SAID = ("conversations", "messages", "thumbs", "choices", "rankings", "demonstrations")

# Each process first retries three times what was tried before the last kill, then votes in threads
# that share commits. It says `try` before each event, `ack` after it, and `again` after retries.
VOTING = """
import json, os, random, signal, sys, threading, time
from feedback_store import CandidateReply, FeedbackStore

def say(word, *facts):
    os.write(tell, (json.dumps([word, *facts]) + "\\n").encode())  # atomic: it is short

def add(store, rater, kind, about, key):
    if kind == "choice":
        return store.add_choice(about, rater, "a", idempotency_key=key)
    return store.add_thumb(about, rater, -1 if key.endswith("-again") else 1, idempotency_key=key)

def attempt(store, *event):
    say("try", *event)
    add(store, *event)
    say("ack", *event)

def vote(store, name, run):
    rater = store.add_rater(name, consent="v1").id
    conversation = store.add_conversation(rater).id
    for number in range(100_000):
        key = f"{run}-{name}-{number}"
        question = store.add_message(conversation, "user", "hello")
        replies = [CandidateReply("x"), CandidateReply("y")]
        shown, messages = store.add_candidates(question.id, replies, rater_id=rater)
        attempt(store, rater, "choice", shown, key)
        attempt(store, rater, "thumb", messages[0].id, key)
        attempt(store, rater, "thumb", messages[0].id, key + "-again")

def live(path, run, pending):
    store = FeedbackStore(path)
    for event in pending:
        assert len({add(store, *event).id for _ in range(3)}) == 1
        say("again", *event)
    for number in range(3):
        threading.Thread(target=vote, args=(store, f"rater-{number}", run)).start()

moments, pending = random.Random(0), {}
for run in range(int(sys.argv[2])):
    receive, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        live(sys.argv[1], run, pending)
        signal.pause()
    os.close(tell)
    time.sleep(moments.uniform(0, float(sys.argv[3])))  # the first kills may hit the migration
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with open(receive) as told:
        for line in told:
            word, *event = json.loads(line)
            if word == "try":
                pending[tuple(event)] = None
            elif word == "again":
                del pending[tuple(event)]
            sys.stdout.write(line)
print(json.dumps(["left", *pending]))
"""

# Counts in a consent field: a read and a write that only one immediate transaction keeps together.
COUNTING = """
import sys
from feedback_store import FeedbackStore
with FeedbackStore(sys.argv[1]) as store:
    for _ in range(int(sys.argv[2])):
        with store._file.write():
            store.set_consent("counter", str(int(store.rater("counter").consent) + 1))
"""

OPENING = """
import os, sys
from feedback_store import FeedbackStore
for path in sys.argv[1:]:
    wait, go = os.pipe()
    pids = []
    for _ in range(4):
        pids.append(os.fork())
        if pids[-1] == 0:
            os.close(go)
            os.read(wait, 1)  # all begin when the parent closes its end
            with FeedbackStore(path) as store:
                os._exit(0 if store.serving().adapter == "policy-000000" else 1)
    os.close(go)
    os.close(wait)
    print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""

# Kills a process on each path while it opens the store; the first path says how long that takes.
KILLED_OPENING = """
import os, random, signal, sys, time
from feedback_store import FeedbackStore

def opening(path):
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tell, b".")
        FeedbackStore(path)
        os.write(tell, b".")
        signal.pause()
    os.read(ready, 1)
    return pid, ready, tell

def kill(pid, ready, tell):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(tell)

whole = opening(sys.argv[1])
started = time.monotonic()
os.read(whole[1], 1)
longest = 1.2 * (time.monotonic() - started)
kill(*whole)
moments = random.Random(0)
for path in sys.argv[2:]:
    process = opening(path)
    time.sleep(moments.uniform(0, longest))
    kill(*process)
"""


def output_of(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def check_that_nothing_is_lost(path, kills, longest_s):
    lines = [json.loads(line) for line in output_of(VOTING, path, kills, longest_s).splitlines()]
    acknowledged = {tuple(event) for word, *event in lines if word == "ack"}
    tried = {tuple(event) for word, *event in lines if word == "try"}
    again = {tuple(event) for word, *event in lines if word == "again"}
    left = {tuple(event) for event in lines[-1][1:]}
    assert len(acknowledged) > kills
    assert tried == again | left
    with FeedbackStore(path) as store:
        assert store.verify() == []  # pages, references, and candidates with all their replies
        for rater, kind, about, key in left:  # the last process had nobody after it
            if kind == "choice":
                store.add_choice(about, rater, "a", idempotency_key=key)
            else:
                value = -1 if key.endswith("-again") else 1
                store.add_thumb(about, rater, value, idempotency_key=key)
    with sqlite3.connect(path) as db:
        sql = "SELECT rater_id, 'choice', candidates_id, idempotency_key FROM choices UNION ALL"
        sql += " SELECT rater_id, 'thumb', message_id, idempotency_key FROM thumbs"
        stored = Counter(db.execute(sql))
        assert acknowledged <= stored.keys()
        assert stored == Counter(tried)  # each exactly once, however often it was sent
        for table in ("choices", "thumbs"):  # an event and its mark are one write
            unmarked = f"""SELECT count(*) FROM {table} WHERE NOT EXISTS (
                SELECT 1 FROM stale_prompts AS stale WHERE stale.rater_id = {table}.rater_id
                AND stale.prompt_hash = {table}.prompt_hash)"""
            assert db.execute(unmarked).fetchone() == (0,)
        standing = "SELECT message_id FROM thumbs WHERE superseded_at IS NULL"
        assert max(Counter(db.execute(standing)).values()) == 1
    return len(acknowledged)


def test_no_acknowledged_event_is_lost_when_the_process_is_killed(path):
    check_that_nothing_is_lost(path, kills=20, longest_s=0.3)


@pytest.mark.slow
def test_no_acknowledged_event_is_lost_in_a_thousand_kills(path):
    assert check_that_nothing_is_lost(path, kills=1_000, longest_s=0.1) > 1_000


def check_that_no_update_is_lost(path, times, times_elsewhere):
    def count(times):
        for _ in range(times):
            with store._file.write():
                store.set_consent("counter", str(int(store.rater("counter").consent) + 1))

    with FeedbackStore(path) as store:
        store.add_rater("counter", consent="0")
        command = [sys.executable, "-c", COUNTING, str(path), str(times_elsewhere)]
        others = [subprocess.Popen(command) for _ in range(2)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(count, [times] * 16))
            while any(other.poll() is None for other in others):
                list(pool.map(count, [1] * 16))
        assert [other.returncode for other in others] == [0, 0]
        with Database(path) as db:
            written = db.execute("SELECT count(*) FROM audit WHERE action = 'consent'").fetchone()
        assert store.rater("counter").consent == str(written[0])
        assert written[0] >= 16 * times + 2 * times_elsewhere


def test_threads_and_processes_that_read_and_write_at_once_lose_nothing(path):
    check_that_no_update_is_lost(path, times=10, times_elsewhere=40)


@pytest.mark.slow
def test_threads_and_processes_that_read_and_write_for_long_lose_nothing(path):
    check_that_no_update_is_lost(path, times=500, times_elsewhere=500)


def test_readers_are_not_held_up_by_a_writer(path):
    with FeedbackStore(path) as store, ThreadPoolExecutor(1) as pool, store._file.write():
        assert pool.submit(store.counts).result(timeout=5)["raters"] == 0


def old_store(path, version="0.1.0"):
    """A store as a released version left it."""
    connection = sqlite3.connect(path)
    connection.executescript((RELEASED / f"{version}.sql").read_text())
    connection.close()
    return path


def migrations_in(path):
    """The names of those that were applied, as often as they were."""
    connection = sqlite3.connect(path)
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return []
        sql = "SELECT name FROM _sqlite_migrations ORDER BY id"
        return [row[0] for row in connection.execute(sql)]
    finally:
        connection.close()


def said_in(path):
    """Every row that people's words are in, without the columns that later versions have added."""
    connection = sqlite3.connect(path)
    said = {}
    for table in SAID:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        new = {"path_hash", "text_hash", "prompt_hash", "held_out", "number"}
        new |= {"pinned", "deleted_at", "page"}
        new |= {"tags", "comment"} if table == "choices" else set()
        kept = ", ".join(f'"{name}"' for name in columns if name not in new)
        said[table] = connection.execute(f"SELECT {kept} FROM {table} ORDER BY id").fetchall()
    connection.close()
    return said


def check_that_one_process_migrates(tmp_path, times):
    paths = [tmp_path / f"{number}.db" for number in range(times)]
    for path in paths[::2]:
        old_store(path)
    assert output_of(OPENING, *paths) == "[0, 0, 0, 0]\n" * times
    for path in paths:
        assert migrations_in(path) == sorted(known_migrations())


def test_four_processes_that_open_a_file_at_once_migrate_it_once(tmp_path):
    check_that_one_process_migrates(tmp_path, 6)


@pytest.mark.slow
def test_four_processes_that_open_a_hundred_files_at_once_migrate_each_once(tmp_path):
    check_that_one_process_migrates(tmp_path, 100)


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_during_a_migration_leaves_the_old_schema_or_the_new(tmp_path, kills):
    paths = [tmp_path / f"{number}.db" for number in range(kills)]
    for path in paths[::2]:
        said = said_in(old_store(path))
    first, all_of_them = migrations_in(paths[0]), sorted(known_migrations())
    output_of(KILLED_OPENING, old_store(tmp_path / "whole.db"), *paths)
    found = Counter()
    for number, path in enumerate(paths):
        old = first if number % 2 == 0 else []
        schema = migrations_in(path)
        assert schema in (old, all_of_them)  # in one transaction, so never a half
        found[schema == all_of_them] += 1
        assert not old or said_in(path) == said
        with FeedbackStore(path) as store:  # and the next process goes on from there
            assert store.verify() == []
        assert not old or said_in(path) == said
        assert migrations_in(path) == all_of_them
    assert kills < 100 or (found[True] and found[False])
