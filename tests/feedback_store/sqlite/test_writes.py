"""Writers who share a commit: what each of them is told, and what is in the file afterwards."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils.utils import sqlite3

from feedback_store import ConflictError, FeedbackStore, StoreUnavailableError, UnknownRecordError
from feedback_store.sqlite.group_commit import MAX_AGE_S, MAX_WRITERS


class Holder:
    """A writer in a thread of its own, who stays in the block until told to leave it."""

    def __init__(self, store, *, alone=False, fails=None, work=None):
        self.inside, self.leave, self.told = threading.Event(), threading.Event(), None
        self._arguments = (store, alone, fails, work)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        store, alone, fails, work = self._arguments
        try:
            with store._file.write(alone=alone) as db:
                if work:
                    work(db)
                self.inside.set()
                assert self.leave.wait(30)
                if fails:
                    raise fails
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
def sharing(store, patient):
    """Two who share a transaction: the first has ended its block, the second is in its own."""

    def share(**second):
        one = Holder(store, work=adds("one")).entered()
        two = Holder(store, work=adds("two"), **second)
        wait_in_line(store, 1)
        one.leave.set()
        two.entered()
        return one, two

    return share


def test_who_shares_a_commit_is_told_only_after_it(sharing, path):
    one, two = sharing()
    time.sleep(0.05)
    assert one.told is None
    assert raters_in(path) == set()
    assert two.left() == "saved"
    assert one.left() == "saved"
    assert raters_in(path) == {"one", "two"}


def test_a_block_that_raises_is_undone_alone_and_gets_its_own_error(sharing, path):
    one, two = sharing(fails=KeyError("mine"))
    assert isinstance(two.left(), KeyError)
    assert one.left() == "saved"
    assert raters_in(path) == {"one"}


def test_a_block_that_refers_to_nothing_does_not_harm_the_one_it_shares_with(store, patient, path):
    one = Holder(store, work=adds("one")).entered()
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(store.add_conversation, "nobody")
        wait_in_line(store, 1)
        assert one.left() == "saved"
        with pytest.raises(UnknownRecordError):
            refused.result(30)
    assert raters_in(path) == {"one"}


@pytest.mark.parametrize("end", ["ROLLBACK", "RELEASE block; ROLLBACK"])
def test_who_shared_a_transaction_that_was_lost_is_told_that_nothing_was_saved(
    store, patient, path, end
):
    one = Holder(store, work=adds("one")).entered()

    def lose(db):  # as SQLite does by itself when the disk is full
        for statement in end.split(";"):
            db.conn.execute(statement)

    two = Holder(store, work=lose)
    wait_in_line(store, 1)
    one.leave.set()
    two.entered()
    for told in (two.left(), one.left()):
        assert isinstance(told, StoreUnavailableError)
        assert "nothing was saved" in str(told)
    assert raters_in(path) == set()
    store.add_rater("three")
    assert raters_in(path) == {"three"}


def test_a_commit_that_fails_is_told_to_all_who_share_it(store, patient, path):
    def dangling(db):  # a deferred reference to nothing, which only the commit finds
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute(
            "INSERT INTO conversations (id, rater_id, title, created_at) VALUES ('c', 'x', '', '')"
        )

    one = Holder(store, work=adds("one")).entered()
    two = Holder(store, work=dangling)
    wait_in_line(store, 1)
    one.leave.set()
    two.entered()
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


def test_a_writer_alone_commits_what_was_open_and_is_joined_by_nobody(store, patient, path):
    one = Holder(store, work=adds("one")).entered()
    alone = Holder(store, alone=True, work=adds("alone"))
    wait_in_line(store, 1)
    one.leave.set()
    alone.entered()
    assert one.left() == "saved"  # though the other is still at work
    after = Holder(store, work=adds("after"))
    wait_in_line(store, 1)
    assert alone.left() == "saved"
    after.entered()
    assert raters_in(path) == {"one", "alone"}
    assert after.left() == "saved"


def test_a_batch_is_closed_when_it_is_old(store, monkeypatch, path):
    monkeypatch.setattr("feedback_store.sqlite.group_commit.MAX_AGE_S", 0)
    one = Holder(store, work=adds("one")).entered()
    two = Holder(store, work=adds("two"))
    wait_in_line(store, 1)
    assert one.left() == "saved"  # without waiting for the second
    assert two.left() == "saved"


def test_a_batch_is_closed_when_it_has_many_writers(store, patient, monkeypatch, path):
    monkeypatch.setattr("feedback_store.sqlite.group_commit.MAX_WRITERS", 1)
    one = Holder(store, work=adds("one")).entered()
    others = [Holder(store, work=adds(name)) for name in ("two", "three")]
    wait_in_line(store, 2)
    one.leave.set()
    others[0].entered()
    assert others[0].left() == one.left() == "saved"
    assert raters_in(path) == {"one", "two"}
    assert others[1].left() == "saved"
    assert MAX_WRITERS > 1 and 0 < MAX_AGE_S < 1


def test_turns_come_in_the_order_of_asking(store, patient):
    order = []
    first = Holder(store).entered()
    others = []
    for number in range(12):
        others.append(Holder(store, work=lambda _, n=number: order.append(n)))
        others[-1].leave.set()
        wait_in_line(store, number + 1)
    assert first.left() == "saved"
    assert [other.left() for other in others] == ["saved"] * 12
    assert order == list(range(12))


def test_who_waits_in_vain_is_told_and_the_others_go_on(store, monkeypatch):
    monkeypatch.setattr(store._file._group, "_patience_s", 0.05)
    one = Holder(store, work=adds("one")).entered()
    with pytest.raises(StoreUnavailableError, match="nothing was saved"):
        store.add_conversation("nobody")
    assert one.left() == "saved"
    assert store.add_rater("two").id == "two"


@pytest.fixture
def submitted(store, patient):
    """Works that are in line, in order, behind a block that is still open; and that block."""
    pool = ThreadPoolExecutor(8)

    def submit(*works):
        one = Holder(store, work=adds("one")).entered()
        told = []
        for number, work in enumerate(works, start=1):
            told.append(pool.submit(store._file.run, work))
            wait_in_line(store, number)
        return one, told

    yield submit
    pool.shutdown()


def test_who_has_the_turn_does_the_work_that_waits_and_one_commit_saves_it(submitted, path):
    seen = []

    def work(db):
        adds("two")(db)
        seen.append((threading.get_ident(), raters_in(path)))
        return "its result"

    one, told = submitted(work, adds("three"))
    assert one.left() == "saved"
    assert [each.result(30) for each in told] == ["its result", None]
    assert seen == [(one._thread.ident, set())]
    assert raters_in(path) == {"one", "two", "three"}


def test_work_that_raises_is_undone_alone_and_only_who_brought_it_hears(submitted, path):
    def fails(db):
        adds("two")(db)
        raise KeyError("mine")

    one, told = submitted(fails, adds("three"))
    assert one.left() == "saved"
    with pytest.raises(KeyError, match="mine"):
        told[0].result(30)
    assert told[1].result(30) is None
    assert raters_in(path) == {"one", "three"}


def test_work_in_a_transaction_that_was_lost_is_told_so(submitted, store, path):
    one, told = submitted(adds("two"), lambda db: db.conn.execute("ROLLBACK"), adds("three"))
    assert isinstance(one.left(), StoreUnavailableError)
    for lost in told[:2]:
        with pytest.raises(StoreUnavailableError, match="nothing was saved"):
            lost.result(30)
    assert told[2].result(30) is None  # in a transaction of its own
    assert raters_in(path) == {"three"}


def test_work_before_a_block_is_done_and_the_block_has_the_turn_then(submitted, store, path):
    one, told = submitted(adds("two"))
    block = Holder(store, work=adds("block"))
    wait_in_line(store, 2)
    one.leave.set()
    block.entered()
    assert not told[0].done() and raters_in(path) == set()
    assert block.left() == one.left() == "saved" and told[0].result(30) is None
    assert raters_in(path) == {"one", "two", "block"}


def test_work_that_waits_in_vain_is_told_and_is_not_done_later(store, monkeypatch, path):
    monkeypatch.setattr(store._file._group, "_patience_s", 0.05)
    one = Holder(store, work=adds("one")).entered()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(store._file.run, adds("late"))
        with pytest.raises(StoreUnavailableError, match="other threads have been writing"):
            late.result(30)
    assert one.left() == "saved"
    assert raters_in(path) == {"one"}


def test_an_interrupt_in_the_midst_of_another_ones_work_undoes_that_alone(
    store, patient, interruptible, path
):
    def slow(db):
        adds("slow")(db)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt), store._file.write() as db:
            adds("one")(db)
            told = pool.submit(store._file.run, slow)
            wait_in_line(store, 1)
        with pytest.raises(StoreUnavailableError, match="interrupted"):
            told.result(30)
    assert raters_in(path) == {"one"}
    store.add_rater("after")


def test_an_interrupt_before_anothers_work_is_begun_leaves_nobody_waiting(
    store, patient, monkeypatch, path
):
    one = Holder(store, work=adds("one")).entered()
    group = store._file._group
    whole = group._do

    def interrupted(writer, batch):
        if threading.get_ident() == one._thread.ident:
            raise KeyboardInterrupt
        whole(writer, batch)

    monkeypatch.setattr(group, "_do", interrupted)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(store._file.run, adds("two"))
        wait_in_line(store, 1)
        assert isinstance(one.left(), KeyboardInterrupt)
        with pytest.raises(StoreUnavailableError, match="interrupted"):
            told.result(30)
    assert raters_in(path) == {"one"}  # it was not told so, but it is
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
    one = Holder(store, work=adds("one")).entered()
    interrupted_soon()
    with pytest.raises(KeyboardInterrupt):
        store.add_rater("two")
    assert one.left() == "saved"
    store.add_rater("three")
    assert raters_in(path) == {"one", "three"}


def test_an_interrupt_while_waiting_for_the_commit_does_not_stop_it(
    store, patient, interruptible, path
):
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt), store._file.write() as db:
            adds("one")(db)
            other = Holder(store, work=adds("two"))
            wait_in_line(store, 1)
            pool.submit(lambda: (other.entered(), interrupted_soon()))
        assert other.left() == "saved"
    assert raters_in(path) == {"one", "two"}  # the first was not told so, but it may be
    store.add_rater("three")


@settings(max_examples=20)
@given(
    blocks=st.lists(
        st.tuples(
            st.sampled_from(("add", "fail", "nest")), st.sampled_from(("block", "alone", "work"))
        ),
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
            with store._file.write(alone=how == "alone") as db:
                work(db)
        return f"{number}"

    with FeedbackStore(path) as store, ThreadPoolExecutor(len(blocks)) as pool:
        tries = [pool.submit(write, n, *block) for n, block in enumerate(blocks)]
        told = {one.result() for one in tries if one.exception() is None}
    assert told == raters_in(path)
    assert len(told) == sum(kind != "fail" for kind, _ in blocks)
