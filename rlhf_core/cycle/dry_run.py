"""What a cycle would do now, without doing it: its evidence, and whether it would be refused.

It takes the steps that a cycle takes before it trains, on a copy of the store, because these steps
weigh the raters and write. So what it says is what a cycle would find at this moment. It loads no
weights and writes nothing into the data directory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback_store import FeedbackStore
from rlhf_core.config import CycleSettings
from rlhf_core.cycle.evidence import Evidence, note_programs
from rlhf_core.cycle.fitting import fit_snapshot
from rlhf_core.cycle.resume import left_by_failed, snapshot_of
from rlhf_core.cycle.snapshot import Snapshot, Supply, begin_snapshot, read_snapshot
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.model.chat_format import ChatFormat


@dataclass(frozen=True, slots=True)
class DryRun:
    """A cycle as it would begin.

    Attributes:
        snapshot: What it would learn from, cut to the contract of lengths.
        supply: How much evidence there is.
        resumes: The failed cycle that it would go on with.
        refusal: Why it would be refused, or None.
        left_out: What does not count, at most two lines.
        iterations: Of PPO at most, fewer than are set where evidence is thin.
        not_drawn: Comparisons that may be learnt from, above what `cycle.data` takes.
        fitted: The counts of `fit_snapshot`.
    """

    snapshot: Snapshot
    supply: Supply
    resumes: int | None
    refusal: str | None
    left_out: tuple[str, ...]
    not_drawn: int
    iterations: int
    fitted: dict[str, float]


def dry_run(
    copy: FeedbackStore,
    cycles: Path,
    settings: CycleSettings,
    chat: ChatFormat,
    config: Mapping[str, Any],
) -> DryRun:
    """Begin a cycle on a copy of the store, up to the point where it would train.

    Args:
        copy: A copy; raters are assessed in it.
        cycles: The directory of the cycles, which is only read.
        settings: Resolved settings.
        chat: The model's chat template and contract of lengths.
        config: What the cycle's row would have as its settings.
    """
    note_programs(copy, settings.data)
    copy.assess_raters(by="cycle")
    resumes = left_by_failed(copy.cycles(), cycles)
    resumed = None
    if resumes is not None:
        resumed = snapshot_of(
            cycles / f"{resumes:06d}",
            lambda found: read_snapshot(copy, Evidence(**found), settings),
            config=config,
            served=copy.serving().adapter,
        )
    snapshot, supply = begin_snapshot(copy, settings)
    refusal = None if resumed is not None else supply.lack(settings)
    snapshot = snapshot if resumed is None else resumed[0]
    fitted, counts = fit_snapshot(snapshot, chat, needed=0)
    if refusal is None:
        try:
            fit_snapshot(snapshot, chat, needed=settings.gate.min_prompts)
        except NotEnoughDataError as exc:
            refusal = str(exc)
    return DryRun(
        snapshot=fitted,
        supply=supply,
        resumes=resumes if resumed is not None else None,
        refusal=refusal,
        left_out=copy.left_out().lines(),
        not_drawn=max(0, copy.counts()["comparisons"] - supply.decided - supply.ties),
        iterations=settings.for_evidence(snapshot.amount.effective).policy.iterations,
        fitted=counts,
    )
