"""The audit log is read newest first, page by page, and knows what was forced."""

import os

from feedback_store.records import BASE_ADAPTER

ONE = "policy-000001"


def test_pages_go_back_in_time_and_can_be_of_one_kind(store):
    for number in range(5):
        store.note_act("login" if number % 2 else "logout", by=f"key {number}")
    first = store.audit_log(limit=2)
    assert [entry.detail["by"] for entry in first] == ["key 4", "key 3"]
    rest = store.audit_log(before=first[-1].id)
    assert [entry.detail["by"] for entry in rest] == ["key 2", "key 1", "key 0"]
    assert [entry.detail["by"] for entry in store.audit_log(action="login")] == ["key 3", "key 1"]


def test_only_what_was_served_against_a_verdict_is_forced(store):
    cycle = store.start_cycle({}, pid=os.getpid()).id
    store.register_adapter(ONE, kind="policy", cycle_id=cycle)
    store.finish_cycle(cycle, state="rejected", reasons=("too long",), adapter=ONE)
    assert store.forced() == {}
    store.serve(ONE, by="olga", force=True)
    store.serve(BASE_ADAPTER, by="olga", force=True)  # no verdict was against it
    (entry,) = store.forced().values()
    assert (entry.detail["adapter"], entry.detail["by"]) == (ONE, "olga")
    assert entry.detail["reasons"] == ["too long"]
