"""Every adapter with its stage, and the trials that people decided."""

import os

from chat_app.cycles.trials import check_trial
from chat_app.handlers.operate.adapters import AdapterList
from chat_app.handlers.operate.trials import POINTS, thinned
from chat_app.service.chat import ChatService
from feedback_store.records import BASE_ADAPTER
from rlhf_core.config import TrialSettings
from tests.chat_app.handlers.operate.conftest import ONE, TWO, choose


def reject(service: ChatService, name: str) -> None:
    """Let the gate of a cycle reject an adapter."""
    cycle = service.store.start_cycle({}, pid=os.getpid()).id
    service.store.register_adapter(name, kind="policy", cycle_id=cycle)
    service.store.finish_cycle(cycle, state="rejected", reasons=("too long",), adapter=name)


def test_what_may_be_chosen_and_against_which_warning(service: ChatService) -> None:
    reject(service, ONE)
    service.store.register_adapter(TWO, kind="policy", state="published")
    service.store.register_adapter("policy-000003", kind="policy")
    found = {one.name: one for one in AdapterList(service).versions(allowed=True).adapters}
    assert list(found) == ["policy-000003", TWO, ONE, BASE_ADAPTER]  # newest first
    assert [one.choosable for one in found.values()] == [False, True, True, False]
    warning = found[ONE].warning
    assert warning is not None and "rejected by cycle 1: too long" in warning.text
    assert found[TWO].warning is None
    assert (found[BASE_ADAPTER].number, found[TWO].number) == (1, None)
    assert found[BASE_ADAPTER].anchor


def test_a_forced_promotion_stays_marked_after_it_is_served_no_more(service: ChatService) -> None:
    reject(service, ONE)
    service.store.serve(ONE, by="operator", force=True)
    service.store.serve(BASE_ADAPTER, by="operator")
    found = {one.name: one for one in AdapterList(service).versions(allowed=True).adapters}
    assert found[ONE].forced is not None and found[ONE].forced.reasons == ("too long",)
    assert found[BASE_ADAPTER].forced is None


def test_a_trial_has_the_path_of_its_evidence_also_after_its_end(service: ChatService) -> None:
    service.store.register_adapter(ONE, kind="policy", state="published")
    service.store.serve(ONE, by="operator", guard=True)
    choose(service, ONE, raters=9)
    assert check_trial(service.store, TrialSettings()) is not None
    (trial,) = AdapterList(service).versions(allowed=True).trials
    assert (trial.outcome, trial.ended_at is None) == ("better", False)
    assert trial.path[0] == (0, 1.0, 1.0) and trial.path[-1][0] == trial.evidence.choices
    assert max(better for _, better, _ in trial.path) == trial.evidence.better >= trial.enough


def test_a_long_path_is_thinned_and_keeps_its_ends() -> None:
    path = [(1.0 + n, 0.5) for n in range(3 * POINTS)]
    thin = thinned(path)
    assert len(thin) <= POINTS + 1
    assert thin[0] == (0, 1.0, 1.0) and thin[-1] == (3 * POINTS, *path[-1])
