"""Real processes on one file: killed, racing, and writing at once.

The processes are forked by a fresh interpreter that has imported the store but opened nothing.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from sqlite_utils import Database

from feedback_store import FeedbackStore

KILLS = 12

VOTING = """
import os, random, signal, sys, time
from feedback_store import CandidateReply, FeedbackStore

def vote(path, run, acknowledge):
    store = FeedbackStore(path)
    rater = store.add_rater("ann", consent="v1").id
    conversation = store.add_conversation(rater).id
    for number in range(100_000):
        key = f"{run}-{number}"
        question = store.add_message(conversation, "user", "hello")
        replies = [CandidateReply("x"), CandidateReply("y")]
        shown, messages = store.add_candidates(question.id, replies, rater_id=rater)
        store.add_choice(shown, rater, "a", idempotency_key=key)
        store.add_thumb(messages[0].id, rater, 1, idempotency_key=key)
        store.add_thumb(messages[0].id, rater, -1, idempotency_key=key + "-again")
        os.write(acknowledge, f"{key}\\n".encode())

moments = random.Random(0)
for run in range(int(sys.argv[2])):
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        vote(sys.argv[1], run, send)
    os.close(send)
    time.sleep(moments.uniform(0, 0.25))  # the first kills may hit the migration
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with open(receive) as acknowledged:
        sys.stdout.write(acknowledged.read())
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
for attempt in range(int(sys.argv[2])):
    wait, go = os.pipe()
    pids = []
    for _ in range(4):
        pids.append(os.fork())
        if pids[-1] == 0:
            os.close(go)
            os.read(wait, 1)  # all begin when the parent closes its end
            with FeedbackStore(f"{sys.argv[1]}/{attempt}.db") as store:
                os._exit(0 if store.serving().adapter == "policy-000000" else 1)
    os.close(go)
    os.close(wait)
    print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""


VOTING_ON_A_FULL_DISK = """
import resource, sys
from feedback_store import FeedbackStore, StoreUnavailableError

def ask(number):
    store.add_message(conversation, "user", "x" * 5000, message_id=str(number))

with FeedbackStore(sys.argv[1]) as store:
    conversation = store.add_conversation(store.add_rater("ann").id).id
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    saved = refused = 0
    for number in range(200):
        try:
            ask(number)
            saved += 1
        except StoreUnavailableError:
            refused += 1
            assert store.counts()["messages"] == saved
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    ask("later")
    assert saved and refused
    assert store.counts()["messages"] == saved + 1
    assert store.verify() == []
"""


def output_of(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_no_acknowledged_event_is_lost_when_the_process_is_killed(path):
    acknowledged = set(output_of(VOTING, path, KILLS).split())
    assert len(acknowledged) > KILLS
    with FeedbackStore(path) as store:
        assert store.verify() == []
        events = list(store.export_events())
        stored = {(event["event"], event["idempotency_key"]) for event in events}
        for key in acknowledged:
            assert {("choice", key), ("thumb", key), ("thumb", f"{key}-again")} <= stored
        # No event is half there either: candidates with their replies, one standing thumb.
        assert all(len(e["messages"]) == 3 for e in events if e["event"] == "choice")
        judged = {event["message_id"] for event in events if event["event"] == "thumb"}
        assert len(store.thumbs()) == len(judged)


def test_a_full_disk_refuses_votes_keeps_the_saved_ones_and_recovers(path):
    assert output_of(VOTING_ON_A_FULL_DISK, path) == ""


def test_a_retry_after_a_kill_finds_what_was_written(path):
    output_of(VOTING, path, 3)
    with FeedbackStore(path) as store:
        before = store.counts()
        for choice in store.choices():
            again = store.add_choice(
                choice.candidates_id, "ann", "a", idempotency_key=choice.idempotency_key
            )
            assert again == choice
        assert store.counts() == before


def test_threads_and_processes_that_read_and_write_at_once_lose_nothing(path):
    def count(times):
        for _ in range(times):
            with store._file.write():
                store.set_consent("counter", str(int(store.rater("counter").consent) + 1))

    with FeedbackStore(path) as store:
        store.add_rater("counter", consent="0")
        command = [sys.executable, "-c", COUNTING, str(path), "60"]
        others = [subprocess.Popen(command) for _ in range(2)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, [25] * 4))
            while any(other.poll() is None for other in others):
                list(pool.map(count, [1] * 4))
        assert [other.returncode for other in others] == [0, 0]
        with Database(path) as db:
            written = db.execute("SELECT count(*) FROM audit WHERE action = 'consent'").fetchone()
        assert store.rater("counter").consent == str(written[0])
        assert written[0] > 200


def test_readers_are_not_held_up_by_a_writer(path):
    with FeedbackStore(path) as store, ThreadPoolExecutor(1) as pool, store._file.write():
        assert pool.submit(store.counts).result(timeout=5)["raters"] == 0


def test_four_processes_that_open_a_new_file_at_once_migrate_it_once(tmp_path):
    assert output_of(OPENING, tmp_path, 6) == "[0, 0, 0, 0]\n" * 6
    for path in tmp_path.glob("*.db"):
        with Database(path) as db:
            assert db.execute("SELECT count(*) FROM serving").fetchone()[0] == 1
