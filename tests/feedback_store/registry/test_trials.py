import json
import os
import sqlite3

import pytest

from feedback_store import (
    BASE_ADAPTER,
    CandidateReply,
    ConflictError,
    FeedbackStore,
    InvalidFeedbackError,
    UnknownRecordError,
)
from tests.feedback_store.conftest import Chat

ONE, TWO, THREE = (f"policy-{number:06d}" for number in (1, 2, 3))
WHY = "people preferred it in 20% of 60 choices"


@pytest.fixture
def adapters(store):
    for name in (ONE, TWO, THREE):
        store.register_adapter(name, kind="policy", state="published")
    return store


def passed(store, name, promotion):
    cycle = store.start_cycle({}, pid=os.getpid())
    store.register_adapter(name, kind="policy", cycle_id=cycle.id)
    state = "promoted" if promotion == "offline" else "passed"
    return store.finish_cycle(cycle.id, state=state, adapter=name, promotion=promotion)


def compared(chat, trial, choice, first=None, text="hello"):
    """A side-by-side of the trial, the reply of `first` as A, and what the rater chose."""
    first = first or trial.adapter
    second = trial.other if first == trial.adapter else trial.adapter
    asked = chat.ask(text)
    replies = [CandidateReply(f"I am {name}", adapter=name) for name in (first, second)]
    shown, _ = chat.store.add_candidates(asked.id, replies, rater_id=chat.rater, trial_id=trial.id)
    chat.choose(shown, choice)
    return shown


# What begins a trial


def test_a_promotion_begins_a_guard_against_the_adapter_before(adapters):
    adapters.serve(ONE, by="operator", guard=True)
    guard = adapters.open_trial()
    assert (guard.kind, guard.adapter, guard.other) == ("guard", ONE, BASE_ADAPTER)
    adapters.serve(TWO, by="operator", guard=True)
    [second, first] = adapters.trials()
    assert (second.adapter, second.other, second.outcome) == (TWO, ONE, None)
    assert (first.outcome, first.reason) == ("stopped", "policy-000002 is served")


def test_a_rollback_or_the_base_begins_none_and_ends_the_one_that_goes_on(adapters):
    adapters.serve(ONE, by="operator", guard=True)
    adapters.serve(BASE_ADAPTER, by="operator", guard=True)
    assert adapters.open_trial() is None
    adapters.serve(ONE, by="operator", guard=True)
    adapters.serve(TWO, by="rollback")
    assert adapters.open_trial() is None


def test_a_cycle_is_promoted_offline_tried_as_a_canary_or_waits(store):
    assert passed(store, ONE, "offline").state == "promoted"
    assert (store.serving().adapter, store.open_trial().kind) == (ONE, "guard")
    assert passed(store, TWO, "canary").state == "passed"
    canary = store.open_trial()
    assert (canary.kind, canary.adapter, canary.other) == ("canary", TWO, ONE)
    assert passed(store, THREE, "manual").state == "passed"
    assert (store.serving().adapter, store.open_trial()) == (ONE, canary)
    assert store.stages() == {
        BASE_ADAPTER: "retired",
        ONE: "served",
        TWO: "canary",
        THREE: "candidate",
    }


def test_a_cycle_that_waited_is_promoted_when_its_adapter_is_served(store):
    cycle = passed(store, ONE, "manual")
    store.serve(ONE, by="operator")
    assert store.cycle(cycle.id).state == "promoted"


@pytest.mark.parametrize(("state", "promotion"), [("promoted", "canary"), ("passed", "offline")])
def test_a_cycle_ends_as_its_promotion_says(store, state, promotion):
    cycle = store.start_cycle({}, pid=os.getpid())
    with pytest.raises(InvalidFeedbackError, match="nothing to promote"):
        store.finish_cycle(cycle.id, state=state, adapter=BASE_ADAPTER, promotion=promotion)


@pytest.mark.parametrize(
    ("kind", "adapter", "other", "error", "match"),
    [
        ("canary", ONE, TWO, ConflictError, "'policy-000002' is not served by now"),
        ("guard", ONE, BASE_ADAPTER, ConflictError, "'policy-000001' is not served by now"),
        ("canary", BASE_ADAPTER, BASE_ADAPTER, ConflictError, "is served already"),
        ("canary", "policy-000009", BASE_ADAPTER, UnknownRecordError, "policy-000009"),
        ("duel", ONE, BASE_ADAPTER, InvalidFeedbackError, "the kind of a trial"),
    ],
)
def test_a_trial_that_makes_no_sense_is_refused(adapters, kind, adapter, other, error, match):
    with pytest.raises(error, match=match):
        adapters.start_trial(kind, adapter, other, by="operator")
    assert adapters.trials() == []


@pytest.mark.parametrize(
    ("outcome", "state"), [("better", "published"), ("worse", "rejected"), ("stopped", "rejected")]
)
def test_a_rejected_adapter_is_tried_by_force_and_stays_rejected_until_it_is_better(
    adapters, outcome, state
):
    adapters.set_adapter_state(ONE, "rejected")
    with pytest.raises(ConflictError, match="only published policy adapters"):
        adapters.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
    canary = adapters.start_trial("canary", ONE, BASE_ADAPTER, by="operator", force=True)
    assert (adapters.stages()[ONE], adapters.adapter(ONE).state) == ("canary", "rejected")
    adapters.end_trial(canary.id, outcome, WHY, by="server")
    assert adapters.adapter(ONE).state == state
    assert (adapters.serving().adapter == ONE) == (outcome == "better")


@pytest.mark.parametrize("outcome", ["worse", "not_shown", "stopped"])
def test_a_guard_that_a_canary_replaced_begins_anew_if_the_canary_is_not_served(store, outcome):
    passed(store, ONE, "offline")
    passed(store, TWO, "canary")
    store.end_trial(store.open_trial().id, outcome, WHY, by="server")
    guard = store.open_trial()
    assert (guard.kind, guard.adapter, guard.other) == ("guard", ONE, BASE_ADAPTER)


def test_a_guard_that_has_ended_by_itself_does_not_begin_anew(adapters):
    adapters.serve(ONE, by="operator", guard=True)
    adapters.end_trial(adapters.open_trial().id, "better", WHY, by="server")
    canary = adapters.start_trial("canary", TWO, ONE, by="operator")
    adapters.end_trial(canary.id, "worse", WHY, by="server")
    assert adapters.open_trial() is None


def test_a_cycle_says_why_its_canary_was_stopped(store):
    cycle = passed(store, ONE, "canary")
    passed(store, TWO, "canary")
    first = store.cycle(cycle.id)
    why = "its canary was stopped: a canary of policy-000002 began"
    assert (first.state, first.reasons) == ("passed", (why,))


# What its choices say


def test_choices_name_the_preferred_adapter_whatever_side_it_was_on(adapters, ann):
    trial = adapters.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
    compared(ann, trial, "a")
    compared(ann, trial, "a", first=BASE_ADAPTER, text="who are you?")
    compared(ann, trial, "tie", text="and who is she?")
    compared(ann, trial, "both_bad", text="well?")
    found = adapters.trial_choices(trial.id)
    assert found == [("ann", ONE), ("ann", BASE_ADAPTER), ("ann", None), ("ann", None)]


def test_of_a_changed_choice_the_first_counts_as_only_that_is_blind(adapters, ann):
    trial = adapters.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
    shown = compared(ann, trial, "a")
    ann.choose(shown, "b")
    assert adapters.trial_choices(trial.id) == [("ann", ONE)]


def test_other_side_by_sides_say_nothing_about_a_trial(adapters, ann):
    trial = adapters.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
    ann.choose(ann.shown("hello", "one", "two"), "a")
    assert adapters.trial_choices(trial.id) == []


def test_who_does_not_agree_or_is_in_quarantine_decides_nothing(adapters, ann, bob):
    trial = adapters.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
    compared(ann, trial, "a")
    compared(bob, trial, "b")
    adapters.set_consent("ann", None)
    assert adapters.trial_choices(trial.id) == [("bob", BASE_ADAPTER)]
    adapters.quarantine("bob", by="operator", reason="too fast")
    assert adapters.trial_choices(trial.id) == []


def test_new_accounts_of_one_address_are_one_rater(adapters):
    trial = adapters.start_trial("canary", ONE, BASE_ADAPTER, by="operator")
    for number in range(5):
        adapters.add_rater(f"crowd-{number}", origin="203.0.113.9")
        compared(Chat(adapters, f"crowd-{number}"), trial, "a")
    assert len({rater for rater, _ in adapters.trial_choices(trial.id)}) == 1


# What follows from its end


def test_a_better_canary_is_served_and_a_guard_watches_it(store):
    cycle = passed(store, ONE, "canary")
    store.end_trial(store.open_trial().id, "better", "70% of 90 choices", by="server")
    assert (store.serving().adapter, store.cycle(cycle.id).state) == (ONE, "promoted")
    assert (store.open_trial().kind, store.open_trial().other) == ("guard", BASE_ADAPTER)


@pytest.mark.parametrize("outcome", ["worse", "not_shown"])
def test_a_canary_that_is_not_better_is_rejected_with_the_reason(store, outcome):
    cycle = passed(store, ONE, "canary")
    store.end_trial(store.open_trial().id, outcome, WHY, by="server")
    assert (store.serving().adapter, store.open_trial()) == (BASE_ADAPTER, None)
    assert (store.cycle(cycle.id).state, store.cycle(cycle.id).reasons) == ("rejected", (WHY,))
    assert (store.rejection(ONE), store.stages()[ONE]) == ((WHY,), "rejected")


def test_a_served_adapter_that_is_worse_is_rolled_back_and_no_longer_on_the_way_back(adapters):
    for name in (ONE, TWO, THREE):
        adapters.serve(name, by="operator", guard=True)
    adapters.end_trial(adapters.open_trial().id, "worse", WHY, by="server")
    assert (adapters.serving().adapter, adapters.serving().previous) == (TWO, ONE)
    assert adapters.served_before() == (ONE, BASE_ADAPTER)
    assert (adapters.rejection(THREE), adapters.stages()[THREE]) == ((WHY,), "rolled back")
    assert adapters.open_trial() is None


@pytest.mark.parametrize("outcome", ["better", "not_shown", "stopped"])
def test_a_served_adapter_that_is_not_worse_stays(adapters, outcome):
    adapters.serve(ONE, by="operator", guard=True)
    adapters.end_trial(adapters.open_trial().id, outcome, WHY, by="server")
    assert (adapters.serving().adapter, adapters.stages()[ONE]) == (ONE, "served")


def test_an_anchor_may_be_rolled_back_and_the_base_is_never_rejected(adapters):
    adapters.serve(ONE, by="operator", guard=True)
    adapters.set_anchor(ONE, by="operator")
    adapters.end_trial(adapters.open_trial().id, "worse", WHY, by="server")
    assert (adapters.serving().adapter, adapters.stages()[ONE]) == (BASE_ADAPTER, "rolled back")
    assert adapters.anchor() == ONE
    adapters.serve(TWO, by="operator")
    canary = adapters.start_trial("canary", BASE_ADAPTER, TWO, by="operator")
    adapters.end_trial(canary.id, "worse", WHY, by="server")
    assert adapters.adapter(BASE_ADAPTER).state == "published"


def test_a_trial_ends_once(adapters):
    adapters.serve(ONE, by="operator", guard=True)
    guard = adapters.open_trial()
    adapters.serve(TWO, by="operator")
    with pytest.raises(ConflictError, match="has ended"):
        adapters.end_trial(guard.id, "worse", WHY, by="server")
    assert adapters.serving().adapter == TWO


def test_the_audit_log_says_who_began_and_ended_a_trial(adapters, path):
    adapters.serve(ONE, by="operator", guard=True)
    adapters.end_trial(adapters.open_trial().id, "worse", WHY, by="server: people's choices")
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT action, detail FROM audit").fetchall()
    acts = {action: json.loads(detail) for action, detail in found}
    assert acts["trial_started"]["by"] == "operator"
    assert acts["trial_ended"]["reason"] == acts["serve"]["reason"] == WHY
    assert acts["serve"]["by"] == "server: people's choices"


def test_a_store_opened_again_goes_on_with_its_trial(adapters, path):
    adapters.serve(ONE, by="operator", guard=True)
    guard = adapters.open_trial()
    with FeedbackStore(path) as again:
        assert again.open_trial() == guard


def test_a_receipt_says_what_a_choice_decided(adapters, ann):
    adapters.serve(ONE, by="operator", guard=True)
    compared(ann, adapters.open_trial(), "b")
    [open_one] = adapters.feedback_of("ann")
    adapters.end_trial(adapters.open_trial().id, "worse", WHY, by="server")
    [ended] = adapters.feedback_of("ann")
    about = {"kind": "guard", "adapter": ONE, "other": BASE_ADAPTER}
    assert open_one["trial"] == about | {"outcome": None, "counts": True}
    assert ended["trial"] == about | {"outcome": "worse", "counts": True}
