"""What a cycle that died leaves for the next one: its evidence and its stages' checkpoints.

They lie in the cycle's directory, in `checkpoints/`, until it ends. The next cycle takes the folder
over if it is to do the same: same settings, same served policy, and all the evidence may still be
learnt from. Else it is deleted; what it holds quotes people.
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


def keep_evidence(
    folder: Path, snapshot: T, *, config: Mapping[str, Any], served: str, ids: Iterable[str]
) -> T:
    """Write down what a cycle is about to learn from.

    Args:
        folder: The cycle's `checkpoints/`.
        snapshot: A dataclass whose fields are tuples of plain values or records.
        config: The cycle's resolved settings.
        served: The policy that its candidate will be compared with.
        ids: Of all that the snapshot was made of.

    Returns:
        The snapshot as it will come back, so that a resumed cycle sees the very same.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    whole = {"decisive": _decisive(config, served), "ids": list(ids), "snapshot": asdict(snapshot)}  # type: ignore[call-overload]
    beside = folder / "evidence.part"
    beside.write_text(json.dumps(whole))
    beside.replace(folder / EVIDENCE)
    return _records(type(snapshot), json.loads(json.dumps(whole["snapshot"])))


def take_over(
    died: Path,
    own: Path,
    kind: type[T],
    *,
    config: Mapping[str, Any],
    served: str,
    usable: Callable[[], Collection[str]],
) -> T | None:
    """Move the folder of a cycle that died to the one that resumes it.

    Args:
        died: The directory of the cycle that died.
        own: The directory of the one that begins.
        kind: The snapshot's class.
        config: The settings of the one that begins.
        served: The policy being served now.
        usable: Gives the ids of all that may be learnt from now.

    Returns:
        The snapshot; ``None`` if there is nothing to resume.
    """
    try:
        found = json.loads((died / FOLDER / EVIDENCE).read_text())
        same = found["decisive"] == json.loads(json.dumps(_decisive(config, served)))
        allowed = same and set(found["ids"]) <= set(usable())
        snapshot = _records(kind, found["snapshot"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a kill came before it was written, or it is of another version
    if not allowed:
        return None
    (died / FOLDER).replace(own / FOLDER)
    (own / METRICS).write_text("".join(json.dumps(line) + "\n" for line in metrics_of(died)))
    return snapshot


def metrics_of(cycle: Path) -> list[dict[str, Any]]:
    """The metrics in a cycle's directory; a line that a kill has cut is left out."""
    found: list[dict[str, Any]] = []
    for line in (cycle / METRICS).read_text().splitlines() if (cycle / METRICS).exists() else ():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def clear(cycles: Path, *, but: Path | None = None) -> int:
    """Delete what cycles left to be resumed, except one's; returns of how many cycles."""
    folders = [f for f in cycles.glob(f"*/{FOLDER}") if but is None or f.parent != but]
    for folder in folders:
        shutil.rmtree(folder)
    return len(folders)


def _decisive(config: Mapping[str, Any], served: str) -> dict[str, Any]:
    """What two cycles must have in common; sizes in memory and on disk are free."""
    free = set(TrainingStage.model_fields)

    def decisive(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: decisive(v) for k, v in value.items() if k not in free}

    return {"config": decisive(config), "served": served}


def _records(kind: type[T], found: Mapping[str, Any]) -> T:
    """A snapshot from JSON; its fields are tuples of records or of plain values."""
    hints, values = get_type_hints(kind), {}
    for field in fields(kind):  # type: ignore[arg-type]
        record: Any = get_args(hints[field.name])[0]
        plain, rows = not is_dataclass(record), found[field.name]
        values[field.name] = tuple(row if plain else record(**_tuples(row)) for row in rows)
    return kind(**values)


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples; of a record's fields only the prompt is a list."""
    return {k: tuple(v) if isinstance(v, list) and k != "prompt" else v for k, v in row.items()}
