"""A cycle that was cancelled or replaced writes nothing more."""

import json
import os
import subprocess
import sys

import pytest

from feedback_store import BASE_ADAPTER, CycleEndedError, CycleInProgressError

ME = os.getpid()


@pytest.fixture
def other():
    """The pid of a process that lives as long as the test."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child.pid
    child.communicate()


def acts(store, action):
    with store._file.read() as db:
        sql = "SELECT detail FROM audit WHERE action = ?"
        return [json.loads(row[0]) for row in db.execute(sql, [action])]


def cancelled(store):
    store.cancel_cycle(by="key olga")


def replaced(store):
    """As a process in another container sees it, which cannot see this one."""
    with store._file.write() as db:
        db.execute("UPDATE cycles SET process = 'an earlier boot/1'")
    store.start_cycle({}, pid=ME)


@pytest.mark.parametrize("ended", [cancelled, replaced])
def test_every_write_of_a_cycle_that_has_ended_is_refused(store, ann, ended):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    ids = [item.id for item in store.comparisons()]
    store.start_cycle({}, pid=ME)
    store.register_adapter("policy-000001", kind="policy", cycle_id=1)
    ended(store)
    before = store.cycles(), store.adapters(), store.serving(), store.feedback_of(ann.rater)
    for write in (
        lambda: store.update_cycle(1, progress=0.5),
        lambda: store.use_comparisons(1, ids),
        lambda: store.use_comparisons(1, [], prompts=["x"]),
        lambda: store.register_adapter("policy-000002", kind="policy", cycle_id=1),
        lambda: store.finish_cycle(
            1, state="promoted", adapter="policy-000001", promotion="offline"
        ),
        lambda: store.finish_cycle(1, state="rejected", adapter="policy-000001"),
        lambda: store.finish_cycle(1, state="failed"),
    ):
        with pytest.raises(CycleEndedError, match=r"cycle 1 has ended .* may write nothing more"):
            write()
    after = store.cycles(), store.adapters(), store.serving(), store.feedback_of(ann.rater)
    assert after == before


def test_a_cancelled_cycle_says_who_and_where_and_its_votes_stay_new(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    store.start_cycle({}, pid=ME)
    store.use_comparisons(1, [item.id for item in store.comparisons()])
    store.update_cycle(1, stage="reward", progress=0.3, metrics={"planned/hours": 0.5})
    done = store.cancel_cycle(by="key olga")
    assert (done.state, done.stage, done.progress) == ("cancelled", "reward", 0.3)
    assert (done.reasons, done.metrics) == (("by key olga",), {"planned/hours": 0.5})
    assert done.finished_at is not None and store.running_cycle() is None
    assert acts(store, "cycle_cancelled") == [{"cycle": 1, "by": "key olga"}]
    assert store.serving().adapter == BASE_ADAPTER
    assert store.new_comparisons() == 1
    assert store.new_evidence(at_most=9).effective == 0, "they start no cycle by themselves"
    ann.choose(ann.shown("and you", "x", "y"), "b")
    store.refresh_comparisons()
    assert (store.new_comparisons(), store.new_evidence(at_most=9).effective) == (2, 1)
    [used] = store.feedback_of(ann.rater)[0]["comparisons"]
    assert used["cycles"] == []


def test_a_cancel_when_nothing_runs_changes_nothing(store):
    assert store.cancel_cycle(by="operator") is None
    store.start_cycle({}, pid=ME)
    done = store.finish_cycle(1, state="rejected")
    assert store.cancel_cycle(by="operator") is None
    assert store.cycle(1) == done
    store.start_cycle({}, pid=2**22 + 1)  # its process has died: the next cycle resumes it
    assert store.cancel_cycle(by="operator") is None
    assert store.cycle(2).state == "failed" and not acts(store, "cycle_cancelled")


def test_no_cycle_begins_beside_the_process_of_a_cancelled_one(store, other):
    store.start_cycle({}, pid=other)
    store.cancel_cycle(by="operator")
    assert store.cycle_process(1) == other
    with pytest.raises(CycleInProgressError, match=f"its process {other} has not ended yet"):
        store.start_cycle({}, pid=ME)
    with store._file.write() as db:
        db.execute("UPDATE cycles SET process = 'an earlier boot/1'")
    assert store.cycle_process(1) is None
    assert store.start_cycle({}, pid=ME).id == 2


def test_a_rejected_cycle_rejects_its_candidate_in_the_same_transaction(store):
    store.start_cycle({}, pid=ME)
    store.register_adapter("policy-000001", kind="policy", cycle_id=1)
    store.finish_cycle(1, state="rejected", reasons=["worse"], adapter="policy-000001")
    assert store.adapter("policy-000001").state == "rejected"
    assert store.rejection("policy-000001") == ("worse",)
