"""Rounds and choices in a real store, without training."""

import json
import os
from pathlib import Path
from typing import Any

from feedback_store.records import BASE_ADAPTER, CandidateReply, Cycle, Trial
from feedback_store.store import FeedbackStore

ONE, TWO, THREE = (f"policy-{number:06d}" for number in (1, 2, 3))
WON = {
    "win_rate": 0.7,
    "win_rate_low": 0.6,
    "win_rate_high": 0.8,
    "win_rate_question_error": 0.03,
    "win_rate_member_error": 0.04,
    "evidence/effective": 120.4,
    "probe/skills": 0.8,
    "probe_served/skills": 0.75,
}


def cycle_of(
    store: FeedbackStore,
    state: str,
    adapter: str | None = None,
    *,
    promotion: Any = None,
    **metrics: float,
) -> Cycle:
    """A cycle that ended so."""
    cycle = store.start_cycle({}, pid=os.getpid())
    if adapter is not None:
        store.register_adapter(adapter, kind="policy", cycle_id=cycle.id)
    if state == "promoted":
        promotion = "offline"
    found = metrics or (WON if adapter else {})
    return store.finish_cycle(
        cycle.id, state=state, adapter=adapter, promotion=promotion, metrics=found
    )


def write_report(data: Path, cycle: Cycle, **parts: Any) -> None:
    """The report of a cycle."""
    folder = data / "cycles" / f"{cycle.id:06d}"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(parts))


def failed(*names: str) -> list[dict[str, Any]]:
    """The checks of a report, of which these failed, and one passed."""
    text = "data/secret/path is not for everybody"
    checks = [{"name": name, "passed": False, "text": text} for name in names]
    return [{"name": "kl", "passed": True, "text": text}, *checks]


def choose(store: FeedbackStore, trial: Trial, rater: str, choice: str, times: int = 1) -> None:
    """A rater chooses; `a` is the trial's own adapter."""
    store.add_rater(rater, consent="1")
    for time in range(times):
        asked = store.add_message(store.add_conversation(rater).id, "user", f"question {time}")
        replies = [CandidateReply(f"I am {n}", adapter=n) for n in (trial.adapter, trial.other)]
        shown, _ = store.add_candidates(asked.id, replies, rater_id=rater, trial_id=trial.id)
        store.add_choice(shown, rater, choice, idempotency_key=f"{trial.id}-{time}-{shown}")


__all__ = ["BASE_ADAPTER", "ONE", "THREE", "TWO", "WON", "choose", "cycle_of", "failed"]
