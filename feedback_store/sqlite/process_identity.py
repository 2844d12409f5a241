"""Is a process still the one that it was? A bare pid is not enough: pids are reused.

On Linux a process is known by its pid, the boot and its start time; elsewhere by its pid alone.
Zombies count as dead: nothing of theirs will run again.
"""

import os
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def identity(pid: int) -> str | None:
    """A text that no other process has, or None if no such process is alive."""
    if not _BOOT_ID.exists():
        return _signalled(pid)
    try:
        # The name in brackets may hold anything, so count the fields from its end.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else f"{_BOOT_ID.read_text().strip()}/{fields[18]}"


def _signalled(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # alive, and somebody else's
    return "alive"
