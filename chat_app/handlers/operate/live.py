"""How a running cycle goes: its curve and its last line, from the files that it writes.

Invariant: reading never raises; the process may be in the middle of a line, or gone.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard

METRICS, OUTPUT = "metrics.jsonl", "output.log"  # in the cycle's folder; beside all of them
LAST_BYTES = 4096
TOLD = 3  # metrics in the last line


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of PPO: the KL to the reference in nats a reply, and the mean score."""

    kl: float
    score: float


def curve_of(data: Path, cycle_id: int) -> tuple[Iteration, ...]:
    """The iterations so far; a stage that was resumed replaces its own."""
    found: dict[float, Iteration] = {}
    for line in _lines(data, cycle_id):
        if line.get("stage") != "policy":
            continue
        kl, score = line.get("objective/kl"), line.get("objective/scores")
        if _is_finite(kl) and _is_finite(score):
            found[line.get("fraction", 0.0)] = Iteration(kl, score)
    return tuple(found[fraction] for fraction in sorted(found))


def last_line(data: Path, cycle_id: int, since: str) -> str:
    """What the cycle said last: a line of its output, or the newest numbers; empty if nothing.

    Args:
        data: The data directory.
        cycle_id: The cycle.
        since: When it began; output from before is of another one.
    """
    output, metrics = data / "cycles" / OUTPUT, _metrics(data, cycle_id)
    began = datetime.fromisoformat(since).timestamp()
    written, measured = _changed(output), _changed(metrics)
    if written > max(measured, began):
        return _tail(output)
    line = next(_lines(data, cycle_id, text=_tail(metrics)), dict[str, Any]())
    numbers = [(name, n) for name, n in line.items() if name not in ("stage", "fraction")][:TOLD]
    told = "  ".join(f"{name} {n:.3g}" for name, n in numbers if _is_finite(n))
    return f"{line['stage']} {line.get('fraction', 0):.0%}  {told}" if "stage" in line else ""


def _lines(data: Path, cycle_id: int, text: str | None = None) -> Iterator[dict[str, Any]]:
    if text is None:
        try:
            text = _metrics(data, cycle_id).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:  # it is being written
            continue
        if isinstance(found, dict):
            yield found


def _metrics(data: Path, cycle_id: int) -> Path:
    return data / "cycles" / f"{cycle_id:06d}" / METRICS


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _tail(file: Path) -> str:
    """The last line that has text."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - LAST_BYTES))
            lines = opened.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
