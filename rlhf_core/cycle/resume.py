"""What a cycle that died leaves for the next one: its evidence and its stages' checkpoints.

They are in `checkpoints/` of the cycle's directory until the cycle ends. The evidence is ids, and a
hash of the snapshot that was made from it. The next cycle takes the folder over if settings and
served policy are the same, and if the snapshot that the ids give now has the same hash: nobody has
changed or withdrawn what is in it. Otherwise it deletes the folder.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from feedback_store.records import Cycle
from rlhf_core.config import CycleSettings, ReplySettings, TrainingStage

FOLDER, EVIDENCE, METRICS = "checkpoints", "evidence.json", "metrics.jsonl"
T = TypeVar("T")


def config_of(
    settings: CycleSettings, reply: ReplySettings, *, model: str, quantization: str, anchor: str
) -> dict[str, Any]:
    """What a cycle's row and `config.json` have as its settings."""
    base = {"model": model, "quantization": quantization, "reply": reply.model_dump()}
    return settings.model_dump() | base | {"anchor": anchor}


def left_by_failed(earlier: Iterable[Cycle], cycles: Path) -> int | None:
    """The last cycle that left checkpoints, if all since have failed; the newest comes first.

    What was cancelled is not resumed, nor is anything before it.
    """
    failed = takewhile(lambda cycle: cycle.state == "failed", earlier)
    return next((c.id for c in failed if (cycles / f"{c.id:06d}" / FOLDER).exists()), None)


def save_evidence(
    folder: Path,
    evidence: Any,
    snapshot: Any,
    *,
    config: Mapping[str, Any],
    served: str,
    seed: int,
) -> None:
    """Write to disk what a cycle's snapshot was made from, but not what it quotes.

    Args:
        folder: The cycle's `checkpoints/`.
        evidence: A dataclass of plain values.
        snapshot: A dataclass of plain values and records.
        config: The cycle's resolved settings.
        served: The policy that the candidate will be compared with.
        seed: The cycle's seed, which the cycle that resumes it takes over.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    whole = {
        "decisive": _decisive(config, served),
        "seed": seed,
        "evidence": asdict(evidence),
        "snapshot": _hash(snapshot),
    }
    part = folder / "evidence.part"
    part.write_text(json.dumps(whole))
    part.replace(folder / EVIDENCE)  # a kill leaves no file or a whole one


def take_over(
    failed: Path,
    own: Path,
    read: Callable[[Mapping[str, Any]], T],
    *,
    config: Mapping[str, Any],
    served: str,
) -> tuple[T, int] | None:
    """Move the checkpoints and metrics of a failed cycle to the cycle that resumes it.

    Args:
        failed: The directory of the failed cycle.
        own: The directory of the new cycle.
        read: Makes the snapshot from the fields of the evidence.
        config: The settings of the new cycle.
        served: The policy being served now.

    Returns:
        What `snapshot_of` returns.
    """
    found = snapshot_of(failed, read, config=config, served=served)
    if found is not None:
        (failed / FOLDER).replace(own / FOLDER)
        lines = "".join(json.dumps(line) + "\n" for line in metrics_of(failed))
        (own / METRICS).write_text(lines)
    return found


def snapshot_of(
    failed: Path,
    read: Callable[[Mapping[str, Any]], T],
    *,
    config: Mapping[str, Any],
    served: str,
) -> tuple[T, int] | None:
    """The snapshot of a failed cycle, if a new cycle can go on with it.

    Args:
        failed: The directory of the failed cycle.
        read: Makes the snapshot from the fields of the evidence.
        config: The settings of the new cycle.
        served: The policy being served now.

    Returns:
        The snapshot, the same as the failed cycle had, and the cycle's seed; ``None`` if there is
        nothing to resume.
    """
    try:
        found = json.loads((failed / FOLDER / EVIDENCE).read_text())
        if found["decisive"] != json.loads(json.dumps(_decisive(config, served))):
            return None
        snapshot, seed = read(found["evidence"]), int(found["seed"])
        if found["snapshot"] != _hash(snapshot):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the cycle was killed before it was written, or another version wrote it
    return snapshot, seed


def metrics_of(cycle: Path) -> list[dict[str, Any]]:
    """The metrics in a cycle's directory, without lines that a kill has cut."""
    found: list[dict[str, Any]] = []
    for line in (cycle / METRICS).read_text().splitlines() if (cycle / METRICS).exists() else ():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def delete_checkpoints(cycles: Path, *, keep: Path | None = None, up_to: int | None = None) -> int:
    """Delete the checkpoints of all cycles but ``keep``; returns the number of deleted folders.

    A cycle deletes those ``up_to`` its own number. So one that slept while another took its place
    never deletes what the other needs.
    """
    folders = [f for f in cycles.glob(f"*/{FOLDER}") if f.parent != keep]
    folders = [f for f in folders if up_to is None or int(f.parent.name) <= up_to]
    for folder in folders:
        with suppress(FileNotFoundError):  # another process deletes it, too
            shutil.rmtree(folder)
    return len(folders)


def _decisive(config: Mapping[str, Any], served: str) -> dict[str, Any]:
    """What two cycles must have in common: not what comes after the gate, nor what only rounds.

    That is what uses memory, and who decodes: a cycle may go on without servers that died.
    """
    free = {*TrainingStage.model_fields, "generation", "alarms", "trial", "promotion"}

    def decisive(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: decisive(v) for k, v in value.items() if k not in free}

    return {"config": decisive(config), "served": served}


def _hash(snapshot: Any) -> str:
    return hashlib.sha256(json.dumps(asdict(snapshot)).encode()).hexdigest()
