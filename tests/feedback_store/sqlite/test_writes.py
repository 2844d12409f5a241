"""Writers who share a commit: what each of them is told, and what is in the file afterwards."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils.utils import sqlite3

from feedback_store import ConflictError, FeedbackStore, StoreUnavailableError, UnknownRecordError
from feedback_store.sqlite.group_commit import MAX_AGE_S, MAX_WRITERS


class Holder:
    """A writer in a thread of its own, who stays in its work, or block, until told to leave it."""

    def __init__(self, store, work=None, *, block=False, stays=True, fails=None):
        self.inside, self.leave, self.told = threading.Event(), threading.Event(), None
        if not stays:
            self.leave.set()
        self._arguments = (store, block, fails, work)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        store, block, fails, work = self._arguments

        def hold(db):
            if work:
                work(db)
            self.inside.set()
            assert self.leave.wait(30)
            if fails:
                raise fails

        try:
            if block:
                with store._file.write() as db:
                    hold(db)
            else:
                store._file.run(hold)
            self.told = "saved"
        except BaseException as exc:
            self.told = exc

    def entered(self):
        assert self.inside.wait(30)
        return self

    def left(self):
        self.leave.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.told


def raters_in(path):
    with sqlite3.connect(path) as db:
        return {row[0] for row in db.execute("SELECT id FROM raters")}


def adds(rater):
    def work(db):
        db.execute("INSERT INTO raters (id, kind, created_at) VALUES (?, 'person', 'now')", [rater])

    return work


def wait_in_line(store, count):
    group, patience = store._file._group, time.monotonic() + 30
    while len(group._line) < count:
        assert time.monotonic() < patience
        time.sleep(0.001)


@pytest.fixture
def patient(monkeypatch):
    """Batches that never grow old, so that the machine's load decides nothing."""
    monkeypatch.setattr("feedback_store.sqlite.group_commit.MAX_AGE_S", 60)


@pytest.fixture
def interruptible():
    """What is started in the background may ignore Ctrl-C, and so would the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def in_line(store):
    """Starts writers who stand in line in this order, then lets the first of them go on."""

    def start(*writers):
        before = Holder(store, block=True).entered()
        holders = []
        for number, writer in enumerate(writers, start=1):
            holders.append(Holder(store, **writer))
            wait_in_line(store, number)
        before.left()
        return holders

    return start


@pytest.fixture
def sharing(in_line, patient):
    """Two who share a commit: the work of the first has been done, the second is in its own."""

    def share(**second):
        second = {"work": adds("two")} | second
        one, two = in_line({"work": adds("one"), "stays": False}, second)
        two.entered()
        return one, two

    return share


def test_who_shares_a_commit_is_told_only_after_it(sharing, path):
    one, two = sharing()
    time.sleep(0.05)
    assert one.told is None
    assert raters_in(path) == set()
    assert two.left() == one.left() == "saved"
    assert raters_in(path) == {"one", "two"}


def test_who_has_the_turn_does_the_work_that_waits_and_each_hears_its_own_result(
    store, patient, path
):
    seen = []

    def work(name):
        def do(db):
            adds(name)(db)
            seen.append((threading.get_ident(), raters_in(path)))
            return f"the result of {name}"

        return do

    before = Holder(store, block=True).entered()
    with ThreadPoolExecutor(3) as pool:
        told = []
        for number, name in enumerate(("one", "two", "three"), start=1):
            told.append(pool.submit(store._file.run, work(name)))
            wait_in_line(store, number)
        assert before.left() == "saved"
        assert [each.result(30) for each in told] == [
            f"the result of {name}" for name in ("one", "two", "three")
        ]
    assert seen == [(seen[0][0], set())] * 3
    assert raters_in(path) == {"one", "two", "three"}


def test_work_that_raises_is_undone_alone_and_only_who_brought_it_hears(sharing, path):
    one, two = sharing(fails=KeyError("mine"))
    assert isinstance(two.left(), KeyError)
    assert one.left() == "saved"
    assert raters_in(path) == {"one"}


def test_work_that_refers_to_nothing_does_not_harm_what_it_shares_a_commit_with(
    store, sharing, path
):
    one, two = sharing()
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(store.add_message, "nowhere", "user", "hello")
        wait_in_line(store, 1)
        assert two.left() == one.left() == "saved"
        with pytest.raises(UnknownRecordError):
            refused.result(30)
    assert raters_in(path) == {"one", "two"}


@pytest.mark.parametrize("end", ["ROLLBACK", "RELEASE block; ROLLBACK"])
def test_who_shared_a_transaction_that_was_lost_is_told_that_nothing_was_saved(
    store, in_line, patient, path, end
):
    def lose(db):  # as SQLite does by itself when the disk is full
        for statement in end.split(";"):
            db.conn.execute(statement)

    one, two, three = in_line(
        {"work": adds("one"), "stays": False}, {"work": lose}, {"work": adds("three")}
    )
    two.entered()
    for told in (two.left(), one.left()):
        assert isinstance(told, StoreUnavailableError)
        assert "nothing was saved" in str(told)
    assert three.left() == "saved"  # in a transaction of its own
    assert raters_in(path) == {"three"}
    store.add_rater("four")
    assert raters_in(path) == {"three", "four"}


def test_a_commit_that_fails_is_told_to_all_who_share_it(sharing, path):
    def dangling(db):  # a deferred reference to nothing, which only the commit finds
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute(
            "INSERT INTO conversations (id, rater_id, title, created_at) VALUES ('c', 'x', '', '')"
        )

    one, two = sharing(work=dangling)
    for told in (two.left(), one.left()):
        assert isinstance(told, ConflictError)
        assert "nothing was saved" in str(told)
    assert raters_in(path) == set()


def test_nobody_is_saved_inside_a_transaction_that_was_lost(store, path):
    with pytest.raises(StoreUnavailableError, match="ended the transaction"), store._file.write():
        with suppress(RuntimeError), store._file.write() as db:
            db.conn.execute("ROLLBACK")
            raise RuntimeError
        store.add_rater("too late")
    assert raters_in(path) == set()


def test_a_block_has_a_commit_of_its_own(in_line, patient, path):
    one, block, after = in_line(
        {"work": adds("one"), "stays": False},
        {"work": adds("block"), "block": True},
        {"work": adds("after")},
    )
    block.entered()
    assert one.left() == "saved"  # though the block is still at work
    assert raters_in(path) == {"one"}
    assert block.left() == "saved"
    after.entered()
    assert raters_in(path) == {"one", "block"}
    assert after.left() == "saved"


def test_a_batch_is_closed_when_it_is_old(in_line, monkeypatch, path):
    monkeypatch.setattr("feedback_store.sqlite.group_commit.MAX_AGE_S", 0)
    one, two = in_line({"work": adds("one"), "stays": False}, {"work": adds("two")})
    assert one.left() == "saved"  # without waiting for the second
    assert two.left() == "saved"


def test_a_batch_is_closed_when_it_has_many_writers(in_line, patient, monkeypatch, path):
    monkeypatch.setattr("feedback_store.sqlite.group_commit.MAX_WRITERS", 2)
    one, two, three = in_line(
        {"work": adds("one"), "stays": False},
        {"work": adds("two"), "stays": False},
        {"work": adds("three")},
    )
    three.entered()
    assert one.left() == two.left() == "saved"
    assert raters_in(path) == {"one", "two"}
    assert three.left() == "saved"
    assert MAX_WRITERS > 1 and 0 < MAX_AGE_S < 1


def test_turns_come_in_the_order_of_asking(in_line, patient):
    order = []
    holders = in_line(
        *(
            {"work": lambda _, n=n: order.append(n), "block": n % 3 == 0, "stays": False}
            for n in range(12)
        )
    )
    assert [holder.left() for holder in holders] == ["saved"] * 12
    assert order == list(range(12))


@pytest.mark.parametrize("how", ["block", "work"])
def test_who_waits_in_vain_is_told_and_the_write_is_not_done_later(store, monkeypatch, path, how):
    monkeypatch.setattr(store._file._group, "_patience_s", 0.05)
    one = Holder(store, adds("one"), block=True).entered()
    late = Holder(store, adds("late"), block=how == "block", stays=False)
    told = late.left()
    assert isinstance(told, StoreUnavailableError)
    assert "other threads have been writing" in str(told) and "nothing was saved" in str(told)
    assert one.left() == "saved"
    store.add_rater("two")
    assert raters_in(path) == {"one", "two"}


def test_who_waits_in_vain_for_another_process_is_told(store, monkeypatch, path):
    monkeypatch.setattr(store._file._group, "_patience_s", 0.05)
    with (
        FileLock(store._file._lock_path),
        pytest.raises(StoreUnavailableError, match="other processes have been writing"),
    ):
        store.add_rater("one")
    store.add_rater("two")
    assert raters_in(path) == {"two"}


def test_an_interrupt_in_the_midst_of_anothers_work_undoes_all_and_all_are_told(
    store, patient, interruptible, path
):
    def slow(db):
        adds("slow")(db)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

    with ThreadPoolExecutor(1) as pool:
        told = []

        def first(db):
            adds("one")(db)
            told.append(pool.submit(store._file.run, slow))
            wait_in_line(store, 1)

        with pytest.raises(KeyboardInterrupt):
            store._file.run(first)
        with pytest.raises(StoreUnavailableError, match="interrupted"):
            told[0].result(30)
    assert raters_in(path) == set()
    store.add_rater("after")


def test_an_interrupt_before_anothers_work_is_begun_leaves_nobody_waiting(
    store, in_line, patient, monkeypatch, path
):
    do, done = store._file._group._do, []

    def interrupted_at_the_second(writer):
        if done:
            raise KeyboardInterrupt
        done.append(writer)
        do(writer)

    monkeypatch.setattr(store._file._group, "_do", interrupted_at_the_second)
    one, two = in_line({"work": adds("one"), "stays": False}, {"work": adds("two")})
    assert isinstance(one.left(), KeyboardInterrupt)
    told = two.left()
    assert isinstance(told, StoreUnavailableError) and "interrupted" in str(told)
    assert raters_in(path) == set()
    monkeypatch.undo()
    store.add_rater("three")


def test_a_read_sees_the_write_around_it_and_no_other(sharing, store):
    one, two = sharing()
    assert store.counts()["raters"] == 0
    assert one.told is None
    with pytest.raises(UnknownRecordError):
        store.rater("two")
    assert two.left() == one.left() == "saved"
    with store._file.write() as db:
        adds("three")(db)
        assert store.rater("three").id == "three"


def test_a_write_inside_a_write_is_undone_alone_and_saved_with_it(store, path):
    with store._file.write():
        store.add_rater("outer")
        with suppress(RuntimeError), store._file.write():
            store.add_rater("inner")
            raise RuntimeError
        assert raters_in(path) == set()
    assert raters_in(path) == {"outer"}


def test_maintenance_waits_for_the_open_batch_and_is_outside_of_it(sharing, store, path):
    one, two = sharing()
    with ThreadPoolExecutor(1) as pool:
        compacted = pool.submit(store.compact)
        wait_in_line(store, 1)
        assert two.left() == "saved"
        compacted.result(30)
    assert one.left() == "saved"
    assert raters_in(path) == {"one", "two"}


def interrupted_soon():
    """Ctrl-C, a moment from now."""
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_an_interrupt_while_waiting_for_a_turn_gives_the_place_up(store, interruptible, path):
    one = Holder(store, adds("one"), block=True).entered()
    interrupted_soon()
    with pytest.raises(KeyboardInterrupt):
        store.add_rater("two")
    assert one.left() == "saved"
    store.add_rater("three")
    assert raters_in(path) == {"one", "three"}


def test_an_interrupt_while_waiting_for_the_commit_does_not_stop_it(
    store, patient, interruptible, path
):
    before = Holder(store, block=True).entered()
    one = Holder(store, adds("one"), stays=False)
    wait_in_line(store, 1)

    def go_on_once_the_main_thread_waits():
        wait_in_line(store, 2)
        last = Holder(store, adds("last"))
        wait_in_line(store, 3)
        before.left()
        last.entered()  # so the main thread's work has been done, in the thread of the first
        interrupted_soon()
        return last

    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(go_on_once_the_main_thread_waits)
        with pytest.raises(KeyboardInterrupt):
            store._file.run(adds("main"))
        assert last.result(30).left() == one.left() == "saved"
    assert raters_in(path) == {"one", "main", "last"}  # the main thread was not told so
    store.add_rater("after")


@settings(max_examples=20)
@given(
    blocks=st.lists(
        st.tuples(st.sampled_from(("add", "fail", "nest")), st.sampled_from(("block", "work"))),
        min_size=1,
        max_size=12,
    )
)
def test_what_is_in_the_file_is_what_was_told(tmp_path_factory, blocks):
    path = tmp_path_factory.mktemp("told") / "feedback.db"

    def write(number, kind, how):
        def work(db):
            adds(f"{number}")(db)
            if kind == "nest":
                with suppress(RuntimeError), store._file.write():
                    adds(f"{number}-inner")(db)
                    raise RuntimeError
            if kind == "fail":
                raise RuntimeError

        if how == "work":
            store._file.run(work)
        else:
            with store._file.write() as db:
                work(db)
        return f"{number}"

    with FeedbackStore(path) as store, ThreadPoolExecutor(len(blocks)) as pool:
        tries = [pool.submit(write, n, *block) for n, block in enumerate(blocks)]
        told = {one.result() for one in tries if one.exception() is None}
    assert told == raters_in(path)
    assert len(told) == sum(kind != "fail" for kind, _ in blocks)
