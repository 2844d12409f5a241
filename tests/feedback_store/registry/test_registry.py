import json
import math
import os
import subprocess
import sys

import pytest

from feedback_store import (
    BASE_ADAPTER,
    ConflictError,
    CycleInProgressError,
    InvalidFeedbackError,
    ServedBase,
    UnknownRecordError,
)
from feedback_store.registry.cycles import DIED

ME = os.getpid()


def publish(store, number, kind="policy"):
    name = f"{kind}-{number:06d}"
    store.register_adapter(name, kind=kind)
    store.set_adapter_state(name, "published")
    return name


def test_numbers_are_never_reused_not_even_ones_taken_by_hand(store):
    assert [store.next_adapter_number() for _ in range(3)] == [1, 2, 3]
    store.register_adapter("policy-000009", kind="policy")
    assert [store.next_adapter_number() for _ in range(2)] == [10, 11]


def test_the_base_is_that_of_the_last_server(store):
    assert store.base() is None
    for model in ("starter", "someone/model"):
        base = ServedBase(model, {"quantization": "nf4", "reply.tokens": 48})
        store.note_base(base)
        assert store.base() == base


def test_votes_last_sufficed_for_the_last_cycle_that_was_not_refused(store):
    began = store.votes_sufficed_at()
    assert began == store.serving().since

    def end(state):
        return store.finish_cycle(store.start_cycle({}, pid=ME).id, state=state)

    end("refused")
    assert store.votes_sufficed_at() == began
    rejected = end("rejected")
    end("refused")
    assert store.votes_sufficed_at() == rejected.finished_at
    running = store.start_cycle({}, pid=ME)
    assert store.votes_sufficed_at() == running.started_at


def test_an_adapter_is_registered_once(store):
    cycle = store.start_cycle({}, pid=ME)
    added = store.register_adapter(
        "policy-000001",
        kind="policy",
        parent=BASE_ADAPTER,
        cycle_id=cycle.id,
        metrics={"win_rate": 0.8},
    )
    assert store.adapter("policy-000001") == added
    assert (added.state, added.metrics) == ("candidate", {"win_rate": 0.8})
    with pytest.raises(ConflictError, match="names are not used twice"):
        store.register_adapter("policy-000001", kind="policy")
    with pytest.raises(UnknownRecordError):
        store.register_adapter("policy-000002", kind="policy", cycle_id=99)


def test_adapters_are_listed_by_kind_oldest_first(store):
    for name, kind in (("policy-000002", "policy"), ("reward-000001", "reward")):
        store.register_adapter(name, kind=kind)
    assert [item.name for item in store.adapters("policy")] == [BASE_ADAPTER, "policy-000002"]
    assert [item.name for item in store.adapters(kind="reward")] == ["reward-000001"]
    assert len(store.adapters()) == 3


def test_promotion_and_rollback_are_the_same_flip(store):
    one, two = publish(store, 1), publish(store, 2)
    store.serve(one, by="cycle 1")
    now = store.serve(two, by="cycle 2")
    assert (now.adapter, now.previous, now.by) == (two, one, "cycle 2")
    back = store.serve(now.previous, by="ann")
    assert store.serving() == back
    assert (back.adapter, back.previous) == (one, two)
    assert store.serve(one, by="again") == back


def test_only_published_policy_adapters_are_served(store):
    store.register_adapter("policy-000001", kind="policy")
    reward = publish(store, 1, kind="reward")
    for name in ("policy-000001", reward):
        with pytest.raises(ConflictError, match="only published policy adapters"):
            store.serve(name, by="ann")
    with pytest.raises(UnknownRecordError):
        store.serve("policy-000077", by="ann")
    assert store.serving().adapter == BASE_ADAPTER


def rejected(store, reasons):
    store.start_cycle({}, pid=ME)
    store.register_adapter("policy-000001", kind="policy", cycle_id=1, state="rejected")
    store.finish_cycle(1, state="rejected", reasons=reasons, adapter="policy-000001")


def audited(store, action):
    with store._file.read() as db:
        sql = "SELECT detail FROM audit WHERE action = ? ORDER BY id"
        return [json.loads(row["detail"]) for row in db.query(sql, [action])]


def test_a_rejected_adapter_is_served_only_by_force_and_the_audit_log_says_why_not(store):
    rejected(store, ["18% end in mid-sentence", "KL is 40"])
    assert store.rejection("policy-000001") == ("18% end in mid-sentence", "KL is 40")
    with pytest.raises(ConflictError, match="only published policy adapters"):
        store.serve("policy-000001", by="operator")
    store.serve("policy-000001", by="operator", force=True)
    (row,) = audited(store, "serve")
    assert (row["by"], row["forced"], row["reasons"]) == (
        "operator",
        True,
        ["18% end in mid-sentence", "KL is 40"],
    )
    (change,) = audited(store, "adapter_state")
    assert (change["before"], change["after"]) == ("rejected", "published")
    assert store.rejection("policy-000001") is None
    store.serve(BASE_ADAPTER, by="ann")  # and back again, without force
    assert store.serve("policy-000001", by="ann").previous == BASE_ADAPTER
    assert not any("forced" in row for row in audited(store, "serve")[1:])


def test_force_serves_no_candidate_and_no_reward_model(store):
    store.register_adapter("policy-000001", kind="policy")
    store.register_adapter("reward-000001", kind="reward", state="rejected")
    for name in ("policy-000001", "reward-000001"):
        assert store.rejection(name) is None
        with pytest.raises(ConflictError, match="only published policy adapters"):
            store.serve(name, by="ann", force=True)
    assert store.serving().adapter == BASE_ADAPTER


def test_the_anchor_is_the_base_until_an_operator_moves_it_and_the_audit_says_so(store):
    assert store.anchor() == BASE_ADAPTER
    name = publish(store, 3)
    for _ in range(2):  # the second changes nothing
        assert store.set_anchor(name, by="operator") == name
    assert store.anchor() == name
    with store._file.read() as db:
        sql = "SELECT detail FROM audit WHERE action = 'anchor'"
        told = [json.loads(row[0]) for row in db.execute(sql)]
    assert told == [{"before": BASE_ADAPTER, "after": name, "by": "operator"}]
    with pytest.raises(ConflictError, match="is the anchor, so it cannot become rejected"):
        store.set_adapter_state(name, "rejected")
    store.set_anchor(BASE_ADAPTER, by="operator")
    assert store.anchor() == BASE_ADAPTER


def test_only_published_policy_adapters_can_be_the_anchor(store):
    store.register_adapter("policy-000001", kind="policy")
    for name in ("policy-000001", publish(store, 2, kind="reward")):
        with pytest.raises(ConflictError, match="can be the anchor"):
            store.set_anchor(name, by="operator")
    with pytest.raises(UnknownRecordError):
        store.set_anchor("policy-000009", by="operator")
    assert store.anchor() == BASE_ADAPTER


def test_what_is_being_served_cannot_be_rejected(store):
    name = publish(store, 1)
    store.serve(name, by="ann")
    with pytest.raises(ConflictError, match="roll back"):
        store.set_adapter_state(name, "rejected")
    store.serve(BASE_ADAPTER, by="ann")
    assert store.set_adapter_state(name, "rejected").state == "rejected"


def test_a_cycle_reports_its_progress_and_ends(store):
    config = {"policy": {"iterations": 30}}
    started = store.start_cycle(config, pid=ME)
    assert (started.id, started.state, started.stage) == (1, "running", "snapshot")
    assert (started.config, started.pid, started.finished_at) == (config, ME, None)
    half = store.update_cycle(1, stage="reward", progress=0.5)
    assert (half.stage, half.progress) == ("reward", 0.5)
    assert store.update_cycle(1, progress=0.6).stage == "reward"
    known = store.update_cycle(1, metrics={"planned/hours": 0.5, "broken": math.nan})
    assert (known.progress, known.metrics) == (0.6, {"planned/hours": 0.5})
    name = publish(store, 1)
    metrics = {"win_rate": 0.8}
    done = store.finish_cycle(1, state="promoted", metrics=metrics, adapter=name)
    assert (done.state, done.stage, done.progress) == ("promoted", "done", 1.0)
    assert (done.adapter, done.metrics) == (name, metrics)
    assert done.finished_at >= done.started_at
    assert store.last_cycle() == store.cycle(1) == done


def test_a_failed_cycle_keeps_where_it_failed(store):
    store.start_cycle({}, pid=ME)
    store.update_cycle(1, stage="policy", progress=0.7)
    failed = store.finish_cycle(1, state="failed", reasons=["out of memory"])
    assert (failed.stage, failed.progress) == ("policy", 0.7)
    assert failed.reasons == ("out of memory",)


def test_a_promoted_cycle_publishes_and_serves_in_its_last_transaction(store):
    store.start_cycle({}, pid=ME)
    store.register_adapter("policy-000001", kind="policy", cycle_id=1)
    done = store.finish_cycle(
        1,
        state="promoted",
        adapter="policy-000001",
        promotion="offline",
        expected_serving=BASE_ADAPTER,
    )
    assert (done.state, done.adapter) == ("promoted", "policy-000001")
    assert store.adapter("policy-000001").state == "published"
    now = store.serving()
    assert (now.adapter, now.previous, now.by) == ("policy-000001", BASE_ADAPTER, "cycle 1")


def test_a_cycle_whose_opponent_is_no_longer_served_promotes_nothing(store):
    store.start_cycle({}, pid=ME)
    store.register_adapter("policy-000002", kind="policy", cycle_id=1)
    before = store.serve(publish(store, 1), by="ann")
    with pytest.raises(ConflictError, match="'policy-000001' is served by now"):
        store.finish_cycle(
            1,
            state="promoted",
            adapter="policy-000002",
            promotion="offline",
            expected_serving=BASE_ADAPTER,
        )
    assert store.serving() == before
    assert store.adapter("policy-000002").state == "candidate"
    assert store.cycle(1).state == "running"


def test_a_promotion_is_undone_if_the_cycle_cannot_be_ended(store, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    store.start_cycle({}, pid=ME)
    store.register_adapter("policy-000001", kind="policy", cycle_id=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("feedback_store.registry.cycles._end_cycle", killed)
        store.finish_cycle(1, state="promoted", adapter="policy-000001", promotion="offline")
    assert store.serving().adapter == BASE_ADAPTER
    assert store.adapter("policy-000001").state == "candidate"


def test_a_cycle_serves_neither_a_rejected_adapter_nor_a_reward_model(store):
    store.start_cycle({}, pid=ME)
    store.register_adapter("policy-000001", kind="policy", state="rejected")
    store.register_adapter("reward-000001", kind="reward")
    for name in ("policy-000001", "reward-000001"):
        with pytest.raises(ConflictError, match="only published policy adapters"):
            store.finish_cycle(1, state="promoted", adapter=name, promotion="offline")
    assert (store.cycle(1).state, store.serving().adapter) == ("running", BASE_ADAPTER)
    assert store.adapter("reward-000001").state == "candidate"


def test_a_metric_that_is_not_finite_becomes_a_reason(store):
    store.start_cycle({}, pid=ME)
    done = store.finish_cycle(
        1, state="rejected", reasons=("worse",), metrics={"kl": float("nan"), "win_rate": 0.4}
    )
    assert done.metrics == {"win_rate": 0.4}
    assert done.reasons == ("worse", "kl is not a finite number")


def test_one_cycle_at_a_time(store):
    store.start_cycle({}, pid=ME)
    with pytest.raises(CycleInProgressError, match=f"cycle 1 is running .process {ME}"):
        store.start_cycle({}, pid=ME)
    store.finish_cycle(1, state="refused")
    assert store.start_cycle({}, pid=ME).id == 2
    assert [cycle.id for cycle in store.cycles()] == [2, 1]
    assert [cycle.id for cycle in store.cycles(limit=1)] == [2]


def test_a_cycle_whose_process_has_died_is_marked_failed(store):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    store.start_cycle({}, pid=child.pid)
    with pytest.raises(CycleInProgressError):
        store.start_cycle({}, pid=ME)
    assert store.running_cycle() == store.cycle(1)
    child.communicate()
    assert store.running_cycle() is None
    for found in (store.last_cycle(), store.cycle(1)):  # nobody has written it yet
        assert (found.state, found.reasons) == ("failed", (DIED,))
    assert store.start_cycle({}, pid=ME).id == 2
    assert (store.cycle(1).state, store.cycle(1).reasons) == ("failed", (DIED,))


def test_a_pid_that_another_process_has_now_does_not_keep_a_cycle_alive(store):
    store.start_cycle({}, pid=ME)
    with store._file.write() as db:
        db.execute("UPDATE cycles SET process = 'an earlier boot/1'")
    assert store.running_cycle() is None
    assert store.start_cycle({}, pid=ME).id == 2


def test_a_cycle_that_has_ended_stays_as_it_is(store):
    store.start_cycle({}, pid=ME)
    store.finish_cycle(1, state="rejected")
    for change in (
        lambda: store.update_cycle(1, progress=0.1),
        lambda: store.finish_cycle(1, state="promoted"),
    ):
        with pytest.raises(ConflictError, match="has ended"):
            change()
    assert store.cycle(1).state == "rejected"


@pytest.mark.parametrize(
    ("state", "makes_adapter", "noted"),
    [
        ("promoted", True, True),
        ("rejected", False, True),
        ("refused", False, False),
        ("failed", False, False),
        ("failed", True, True),  # the adapter has learnt, whether or not it is served
    ],
)
def test_only_a_cycle_of_which_something_lasts_is_noted_as_having_used_a_vote(
    store, ann, state, makes_adapter, noted
):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=ME)
    store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
    if makes_adapter:
        store.register_adapter("policy-000001", kind="policy", cycle_id=cycle.id)
    store.finish_cycle(cycle.id, state=state)
    [used] = store.feedback_of(ann.rater)[0]["comparisons"]
    assert used["cycles"] == ([cycle.id] if noted else [])


def test_what_a_killed_cycle_noted_goes_when_the_next_one_finds_it_dead(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    dead = store.start_cycle({}, pid=2**22 + 1)
    store.use_comparisons(dead.id, [item.id for item in store.comparisons()])
    store.start_cycle({}, pid=ME)
    [used] = store.feedback_of(ann.rater)[0]["comparisons"]
    assert used["cycles"] == []


def test_wrong_values_are_refused(store):
    store.start_cycle({}, pid=ME)
    for attempt in (
        lambda: store.register_adapter("value-000001", kind="value"),
        lambda: store.set_adapter_state(BASE_ADAPTER, "retired"),
        lambda: store.update_cycle(1, stage="lunch"),
        lambda: store.update_cycle(1, progress=1.2),
        lambda: store.finish_cycle(1, state="running"),
        lambda: store.finish_cycle(1, state="promoted", promotion="offline"),
        lambda: store.finish_cycle(1, state="rejected", adapter=BASE_ADAPTER, promotion="offline"),
    ):
        with pytest.raises(InvalidFeedbackError):
            attempt()
    for unknown in (
        lambda: store.cycle(9),
        lambda: store.adapter("x"),
        lambda: store.use_comparisons(1, ["x"]),
        lambda: store.finish_cycle(1, state="promoted", adapter="x"),
    ):
        with pytest.raises(UnknownRecordError):
            unknown()


def test_a_fallback_keeps_the_adapter_that_was_served_before_the_damaged_one(store):
    one, two, bad = (publish(store, number) for number in (1, 2, 3))
    for name in (one, two, bad):
        store.serve(name, by="operator")
    fallen = store.fall_back({bad}, prefer=two, by="server")
    assert store.serving() == fallen
    assert (fallen.adapter, fallen.previous, fallen.by) == (two, one, "server")
    assert store.served_before() == (one, BASE_ADAPTER)
    assert audited(store, "serve")[-1]["previous"] == one


def test_a_fallback_without_a_loaded_adapter_goes_back_as_far_as_it_must(store):
    one, two, bad = (publish(store, number) for number in (1, 2, 3))
    for name in (one, two, bad):
        store.serve(name, by="operator")
    assert store.fall_back({bad, two}, prefer=None, by="server").adapter == one
    store.serve(bad, by="operator")
    last = store.fall_back({bad, two, one}, prefer=None, by="server")
    assert (last.adapter, last.previous) == (BASE_ADAPTER, None)


def test_a_fallback_changes_nothing_if_another_adapter_is_served_by_now(store):
    one, bad = publish(store, 1), publish(store, 2)
    store.serve(one, by="operator")
    assert store.fall_back({bad}, prefer=BASE_ADAPTER, by="server") == store.serving()
    assert store.serving().adapter == one


def test_a_fallback_serves_no_adapter_that_was_rejected_meanwhile(store):
    one, bad = publish(store, 1), publish(store, 2)
    for name in (one, bad):
        store.serve(name, by="operator")
    store.set_adapter_state(one, "rejected")
    assert store.fall_back({bad}, prefer=one, by="server").adapter == BASE_ADAPTER


def test_what_was_served_before_follows_rollbacks_too(store):
    one, two = publish(store, 1), publish(store, 2)
    assert store.served_before() == ()
    for name in (one, two, one):
        store.serve(name, by="operator")
    assert store.served_before() == (two, BASE_ADAPTER)


def test_adapters_are_signed_once_and_the_audit_log_names_them(store):
    assert store.signed_since() is None
    store.note_signed(["policy-000001"], by="server")
    since = store.signed_since()
    store.note_signed([], by="cycle")
    assert store.signed_since() == since is not None
    (row,) = audited(store, "adapters_signed")
    assert row == {"adapters": ["policy-000001"], "by": "server"}
