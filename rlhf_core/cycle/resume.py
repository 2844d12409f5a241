"""What a cycle that died leaves for the next one: its snapshot and its stages' checkpoints.

They are in `checkpoints/` of the cycle's directory until the cycle ends. The next cycle takes the
folder over if settings and served policy are the same and all data in the snapshot may still train.
Otherwise it deletes the folder, because the snapshot quotes people.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from rlhf_core.config import TrainingStage

FOLDER, EVIDENCE, METRICS = "checkpoints", "evidence.json", "metrics.jsonl"
T = TypeVar("T")


def save_snapshot(
    folder: Path,
    snapshot: T,
    *,
    config: Mapping[str, Any],
    served: str,
    seed: int,
    ids: Iterable[str],
) -> T:
    """Write a cycle's snapshot to disk.

    Args:
        folder: The cycle's `checkpoints/`.
        snapshot: A dataclass whose fields are tuples of plain values or records.
        config: The cycle's resolved settings.
        served: The policy that the candidate will be compared with.
        seed: The cycle's seed, which the cycle that resumes it takes over.
        ids: The ids of everything that the snapshot was made from.

    Returns:
        The snapshot after a round trip through JSON, so that a resumed cycle sees the same one.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    whole = {
        "decisive": _decisive(config, served),
        "seed": seed,
        "ids": list(ids),
        "snapshot": asdict(snapshot),  # type: ignore[call-overload]
    }
    part = folder / "evidence.part"
    part.write_text(json.dumps(whole))
    part.replace(folder / EVIDENCE)  # a kill leaves no file or a whole one
    return _records(type(snapshot), json.loads(json.dumps(whole["snapshot"])))


def take_over(
    failed: Path,
    own: Path,
    kind: type[T],
    *,
    config: Mapping[str, Any],
    served: str,
    usable: Callable[[], Collection[str]],
) -> tuple[T, int] | None:
    """Move the checkpoints and metrics of a failed cycle to the cycle that resumes it.

    Args:
        failed: The directory of the failed cycle.
        own: The directory of the new cycle.
        kind: The snapshot's class.
        config: The settings of the new cycle.
        served: The policy being served now.
        usable: Returns the ids of everything that may be learnt from now.

    Returns:
        The snapshot and the seed of the cycle; ``None`` if there is nothing to resume.
    """
    try:
        found = json.loads((failed / FOLDER / EVIDENCE).read_text())
        same = found["decisive"] == json.loads(json.dumps(_decisive(config, served)))
        allowed = same and set(found["ids"]) <= set(usable())
        snapshot, seed = _records(kind, found["snapshot"]), int(found["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the cycle was killed before it was written, or another version wrote it
    if not allowed:
        return None
    (failed / FOLDER).replace(own / FOLDER)
    (own / METRICS).write_text("".join(json.dumps(line) + "\n" for line in metrics_of(failed)))
    return snapshot, seed


def metrics_of(cycle: Path) -> list[dict[str, Any]]:
    """The metrics in a cycle's directory, without lines that a kill has cut."""
    found: list[dict[str, Any]] = []
    for line in (cycle / METRICS).read_text().splitlines() if (cycle / METRICS).exists() else ():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def delete_checkpoints(cycles: Path, *, keep: Path | None = None) -> int:
    """Delete the checkpoints of all cycles but ``keep``; returns the number of deleted folders."""
    folders = [f for f in cycles.glob(f"*/{FOLDER}") if f.parent != keep]
    for folder in folders:
        shutil.rmtree(folder)
    return len(folders)


def _decisive(config: Mapping[str, Any], served: str) -> dict[str, Any]:
    """What two cycles must have in common; settings of memory and checkpoints may differ."""
    free = set(TrainingStage.model_fields)

    def decisive(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: decisive(v) for k, v in value.items() if k not in free}

    return {"config": decisive(config), "served": served}


def _records(kind: type[T], found: Mapping[str, Any]) -> T:
    """A snapshot from JSON: each field is a tuple of records or of plain values."""
    hints, values = get_type_hints(kind), {}
    for field in fields(kind):  # type: ignore[arg-type]
        record: Any = get_args(hints[field.name])[0]
        plain, rows = not is_dataclass(record), found[field.name]
        values[field.name] = tuple(row if plain else record(**_tuples(row)) for row in rows)
    return kind(**values)


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples: every list in a record was one, except the prompt."""
    return {k: tuple(v) if isinstance(v, list) and k != "prompt" else v for k, v in row.items()}
