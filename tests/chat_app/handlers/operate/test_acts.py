"""What an operator does, and the sentence that says so."""

import os

import pytest

from chat_app.errors import ChatAppError, NotAllowedError, RefusedError
from chat_app.handlers.operate.acts import Acts
from chat_app.service.chat import ChatService
from chat_app.service.promotion import warning_of
from tests.chat_app.handlers.operate.conftest import ONE, TWO


def test_a_promotion_and_a_rollback_name_versions_and_who_did_it(published: ChatService) -> None:
    acts, store = Acts(published), published.store
    said = acts.promote(ONE, allowed=True)
    assert said == "New replies come from version 2 now, and people compare it with version 1."
    said = acts.roll_back(allowed=True, by="key olga")
    assert said.startswith("New replies come from version 1 again instead of version 2. ")
    assert store.serving().by == "key olga"
    with pytest.raises((ChatAppError, LookupError)):
        acts.promote("policy-000099", allowed=True)
    (published.settings.adapters / ONE / "manifest.json").unlink()
    with pytest.raises(ChatAppError, match="no manifest"):
        acts.promote(ONE, allowed=True)


def test_a_rollback_says_that_no_guard_begins_also_back_to_the_newer_one(
    published: ChatService,
) -> None:
    acts, store = Acts(published), published.store
    acts.promote(ONE, allowed=True)
    for number in (1, 2):
        said = acts.roll_back(allowed=True)
        assert f"New replies come from version {number} again" in said
        assert "a rollback starts no guard" in said
        assert store.open_trial() is None


def test_a_rollback_says_what_it_skipped(published: ChatService) -> None:
    acts = Acts(published)
    for name in (ONE, TWO):
        acts.promote(name, allowed=True)
    (published.settings.adapters / ONE / "notes.json").write_text("{}")
    said = acts.roll_back(allowed=True)
    assert said.startswith("New replies come from version 1 again instead of version 3. ")
    assert "version 2 was skipped: " in said and "notes.json" in said


def test_a_rejected_adapter_is_served_only_by_force(published: ChatService) -> None:
    acts, store = Acts(published), published.store
    cycle = store.start_cycle({}, pid=os.getpid()).id
    store.register_adapter("policy-000003", kind="policy", state="candidate", cycle_id=cycle)
    store.finish_cycle(cycle, state="rejected", reasons=("KL <b>",), adapter="policy-000003")
    warning = "adapter 'policy-000003' was rejected by cycle 1: KL <b>"
    assert warning_of(store, "policy-000003") == warning
    assert warning_of(store, ONE) is None
    with pytest.raises(NotAllowedError):
        acts.promote("policy-000003", allowed=False, force=True)
    with pytest.raises(RefusedError, match="rejected by cycle 1"):
        acts.promote("policy-000003", allowed=True)


def test_people_compare_and_stop_and_the_sentence_names_both(published: ChatService) -> None:
    acts = Acts(published)
    assert acts.canary(ONE, allowed=True).startswith(f"People compare {ONE} with version 1 now.")
    said = acts.stop_trial(allowed=True)
    assert said == f"People do not compare {ONE} with version 1 any more."
    with pytest.raises(RefusedError, match="nothing to stop"):
        acts.stop_trial(allowed=True)


def test_only_an_operator_cancels_and_the_audit_log_says_who(service: ChatService) -> None:
    acts, store = Acts(service), service.store
    store.start_cycle({}, pid=os.getpid())
    with pytest.raises(NotAllowedError):
        acts.cancel_cycle(allowed=False)
    assert "Cycle 1 is cancelled" in acts.cancel_cycle(allowed=True, by="key olga")
    (last,) = store.cycles()
    assert (last.state, last.reasons) == ("cancelled", ("by key olga",))
    with pytest.raises(RefusedError, match="no cycle is running"):
        acts.cancel_cycle(allowed=True)
