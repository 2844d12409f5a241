"""Cycles with their verdicts, and the report of one."""

import json
import os

import pytest

from chat_app.errors import ChatAppError
from chat_app.handlers.operate.rounds import Rounds
from chat_app.service.chat import ChatService
from feedback_store.errors import UnknownRecordError

FOUND = {
    "votes": 42.0,
    "raters": 6.0,
    "reward_accuracy": 0.7,
    "reward_accuracy_low": 0.55,
    "reward_accuracy_high": 0.82,
    "reward_accuracy_drop": 0.05,
    "reward_accuracy_drop_low": -0.1,
    "reward_accuracy_drop_high": 0.2,
    "prompts": 3.0,
    "prompts_needed": 12.0,
}


def facts_of(service: ChatService, metrics: dict[str, float]) -> tuple[str, ...]:
    """What is told of the only cycle, whose report has these metrics."""
    if not service.store.cycles():
        service.store.start_cycle({}, pid=os.getpid())
    folder = service.settings.data / "cycles" / "000001"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps({"metrics": metrics}))
    return Rounds(service).report(1, allowed=True).facts


def test_a_round_names_its_version_and_its_win_rate(service: ChatService) -> None:
    store = service.store
    assert Rounds(service).rounds(allowed=True) == ()
    cycle = store.start_cycle({}, pid=os.getpid()).id
    store.register_adapter("policy-000001", kind="policy", cycle_id=cycle)
    store.finish_cycle(
        cycle,
        state="promoted",
        adapter="policy-000001",
        promotion="offline",
        metrics={"win_rate": 0.8, "win_rate_low": 0.7},
    )
    (row,) = Rounds(service).rounds(allowed=True)
    assert (row.state, row.number, row.win_rate, row.win_rate_low) == ("promoted", 2, 0.8, 0.7)
    assert row.seconds is not None


def test_a_cycle_that_was_not_evaluated_has_no_report(service: ChatService) -> None:
    service.store.start_cycle({}, pid=os.getpid())
    found = Rounds(service).report(1, allowed=True)
    assert (found.round.id, found.report, found.facts) == (1, None, ())
    with pytest.raises(UnknownRecordError):
        Rounds(service).report(7, allowed=True)


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"sft": 0, "demonstrations": 3, "demonstrations_needed": 16}, "3 of 16 demonstrations"),
        ({"sft": 0, "demonstrations": 20, "demonstrations_needed": 16}, "turned off"),
        ({"sft": 1, "demonstrations": 20, "demonstrations_needed": 16}, None),
        ({"sft": 0, "demonstrations": 3}, None),  # a report of an earlier version
    ],
)
def test_a_stage_that_was_skipped_says_why(
    service: ChatService, metrics: dict[str, float], says: str | None
) -> None:
    told = " ".join(facts_of(service, metrics))
    assert ("skipped" in told) == (says is not None)
    assert says is None or says in told


def test_the_report_says_what_was_found_on_held_out_raters_or_how_much_is_missing(
    service: ChatService,
) -> None:
    held_out = {f"held_out_raters/{name}": value for name, value in FOUND.items()}
    told = " ".join(facts_of(service, held_out))
    assert "predicts 70% (55% to 82%) of 42 votes of 6 raters" in told
    assert "a drop of 5% (-10% to 20%)" in told
    assert "no win rate: 3 new prompts of theirs, 12 are needed" in told
    assert facts_of(service, {"win_rate": 0.5}) == ()


def test_the_report_says_how_the_replies_of_both_policies_look(service: ChatService) -> None:
    looks = {"served/mean_tokens": 17.5, "candidate/mean_tokens": 41.25, "served/empty_rate": 0.1}
    facts_of(service, looks)
    (look,) = Rounds(service).report(1, allowed=True).looks
    assert (look.name, look.served, look.candidate) == ("mean_tokens", 17.5, 41.25)


def test_a_dry_run_that_fails_says_why(
    service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEEDBACK_CHAT_PORT", "none")
    with pytest.raises(ChatAppError, match=r"the dry run failed: .*port"):
        Rounds(service).dry_run(allowed=True)


@pytest.mark.slow
def test_a_dry_run_says_what_a_cycle_would_do_and_starts_none(service: ChatService) -> None:
    found = Rounds(service).dry_run(allowed=True)
    assert found["evidence"]["decided"] == 0 and found["needed"]["effective"] > 0
    assert "evidence" in found["refusal"] and found["plan"]["hours"] > 0
    assert service.store.cycles() == []
