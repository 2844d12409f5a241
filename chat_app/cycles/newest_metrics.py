"""The newest numbers of a cycle, from the file that it writes while it trains.

Invariant: reading never raises, and reads the end of the file alone; the process may be in the
middle of a line, or gone.
"""

import json
import math
from pathlib import Path

LAST_BYTES = 64 * 1024


def newest_metrics(data: Path, cycle_id: int) -> dict[str, float]:
    """The last value of each metric near the end of a cycle's `metrics.jsonl`, if it is finite."""
    file = data / "cycles" / f"{cycle_id:06d}" / "metrics.jsonl"
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - LAST_BYTES))
            lines = opened.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found: dict[str, float] = {}
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:  # it is being written, or it began before the part that was read
            continue
        if isinstance(said, dict):
            found |= {
                name: float(value)
                for name, value in said.items()
                if isinstance(value, int | float) and math.isfinite(value)
            }
    return found
