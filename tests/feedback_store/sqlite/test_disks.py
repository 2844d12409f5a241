"""Disks that are full, read-only or broken: nobody is told "saved" without a flush to disk.

Faults are made by the system itself: a limit on the size of files, a small file system in memory, a
mount that is read-only, and system calls that strace lets fail.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict

import pytest
from sqlite_utils.utils import sqlite3

from feedback_store import FeedbackStore, StoreOpenError, StoreUnavailableError

# Eight threads that write for some seconds; prints who was told "saved" and who was refused. When
# the fault has gone, the same store has to take a write again.
WRITING = """
import json, os, resource, sys, threading
from feedback_store import FeedbackStore, StoreUnavailableError

path, writes, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
saved, refused = [], []

def write(thread):
    for number in range(writes):
        name = f"{thread}-{number}"
        os.write(2, f"\\nbegin {name}\\n".encode())
        try:
            store.add_message(conversation, "user", "x" * 5000, message_id=name)
        except StoreUnavailableError as exc:
            refused.append(str(exc))
        else:
            os.write(2, f"\\nsaved {name}\\n".encode())
            saved.append(name)

with FeedbackStore(path) as store:
    conversation = store.conversations("ann")[0].id
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    os.write(2, b"\\nstart\\n")
    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    for attempt in range(100):  # the fault may last a little longer
        try:
            store.add_message(conversation, "user", "later", message_id="later")
            break
        except StoreUnavailableError as exc:
            refused.append(str(exc))
    assert store.verify() == []
print(json.dumps([saved, refused]))
"""


def traceable():
    """Whether strace may trace here, as it may not in some containers."""
    if shutil.which("strace") is None:
        return False
    probe = ["strace", "-o", os.devnull, "-e", "inject=fsync:error=EIO:when=1", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_strace = pytest.mark.skipif(not traceable(), reason="strace is missing or may not trace")


def written(path, *, writes=6, limit=0, strace=()):
    command = [*strace, sys.executable, "-c", WRITING, str(path), str(writes), str(limit)]
    with FeedbackStore(path) as store:  # so that the faults meet neither a migration nor set-up
        store.add_conversation(store.add_rater("ann").id)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    saved, refused = json.loads(done.stdout)
    assert all("nothing was saved" in text for text in refused)
    return saved, refused


def messages_in(path):
    with sqlite3.connect(path) as db:
        return {row[0] for row in db.execute("SELECT id FROM messages")}


def test_a_full_disk_refuses_what_does_not_fit_and_recovers(path):
    saved, refused = written(path, writes=25, limit=600_000)
    assert saved and refused
    assert messages_in(path) == {*saved, "later"}


@pytest.fixture
def mounted(tmp_path):
    """A file system of two megabytes, where one may be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system may be mounted")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_file_system_without_space_refuses_votes_and_takes_them_once_there_is_some(mounted):
    path = mounted / "feedback.db"
    with FeedbackStore(path) as store:
        conversation = store.add_conversation(store.add_rater("ann").id).id
        (mounted / "ballast").write_bytes(b"x" * 200_000)
        saved, refused = set(), 0
        for _ in range(800):
            try:
                saved.add(store.add_message(conversation, "user", "x" * 4000).id)
            except StoreUnavailableError as exc:
                assert "nothing was saved" in str(exc)
                refused += 1
                if refused == 20:
                    break
        assert saved and refused == 20
        assert len(store.messages(conversation)) == len(saved)
        (mounted / "ballast").unlink()
        saved.add(store.add_message(conversation, "user", "later").id)
        assert store.verify() == []
    assert messages_in(path) == saved


def test_a_read_only_file_system_is_refused(mounted):
    path = mounted / "feedback.db"
    with FeedbackStore(path) as store:
        store.add_rater("ann")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(StoreOpenError, match="cannot"):
        FeedbackStore(path)
    subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
    with FeedbackStore(path) as store:
        assert store.rater("ann")
        store.add_rater("bob")


# strace counts the calls of each thread by itself.
FAULTS = {
    "the first flush fails": "fsync,fdatasync:error=EIO:when=1",
    "every other flush fails": "fsync,fdatasync:error=EIO:when=1+2",
    "writes fail": "pwrite64:error=EIO:when=5..60",
    "the disk is full": "pwrite64:error=ENOSPC:when=5..60",
    "the file system has become read-only": "pwrite64:error=EROFS:when=5..60",
}


@needs_strace
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_error_of_the_disk_is_told_to_all_concerned_and_the_rest_is_kept(path, tmp_path, fault):
    log = tmp_path / "calls"
    strace = ["strace", "-f", "-o", log, "-e", f"trace={fault.partition(':')[0]}"]
    saved, refused = written(path, writes=12, strace=[*strace, "-e", f"inject={fault}"])
    assert "(INJECTED)" in log.read_text()
    assert refused
    # A flush that failed may have reached the disk all the same; what was refused is not promised.
    assert {*saved, "later"} <= messages_in(path)


@needs_strace
def test_nobody_is_told_saved_before_a_flush_that_began_after_they_asked(path, tmp_path):
    log = tmp_path / "calls"
    calls = "trace=fsync,fdatasync,write"
    saved, refused = written(path, strace=["strace", "-f", "-y", "-o", log, "-e", calls])
    assert len(saved) == 48 and not refused
    flushed, asked = 0, {}
    flushes = defaultdict(int)
    waiting = {}
    for line in log.read_text().splitlines():
        process, _, call = line.partition(" ")
        call = call.strip()
        if call.startswith(("fsync(", "fdatasync(")) and "-wal>" in call:
            waiting[process] = flushed
        finished = call.endswith("= 0") and ("fsync" in call or "fdatasync" in call)
        if finished and process in waiting:
            waiting.pop(process)
            flushed += 1
        if "nbegin " in call:
            asked[call.partition("nbegin ")[2].partition("\\n")[0]] = flushed
        if "nsaved " in call:
            name = call.partition("nsaved ")[2].partition("\\n")[0]
            flushes[name] = flushed - asked[name]
    assert set(flushes) == set(saved)
    assert min(flushes.values()) >= 1
