"""Cancel the running cycle: first its row ends, then its process.

From the moment of the row the store refuses all that the cycle writes, so it does not matter when
its process hears of it, or if it never does. The process is asked to end by a signal, and after a
while it is killed: it may be stopped, or deep in one long step. Serving is as it was before.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from chat_app.errors import ChatAppError, RefusedError
from feedback_store.errors import say
from feedback_store.records import Cycle
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.resume import delete_checkpoints

STARTS_S = 10.0  # a process that was started a moment ago has so long to begin its cycle
ANSWERS_S = 8.0  # a process that is asked to end has so long
GONE_S = 5.0  # a process that is killed is gone by then, unless the kernel holds it
_LOOK_S = 0.1


def cancel_cycle(
    store: FeedbackStore, data: Path, *, by: str, starting: Callable[[], bool] = lambda: False
) -> Cycle:
    """Cancel the running cycle and wait until its process is gone; within 25 seconds.

    Args:
        store: The store that has the cycle.
        data: The data directory with the cycle's files.
        by: Who asks.
        starting: Whether a process was started that may not have begun its cycle yet.

    Raises:
        RefusedError: No cycle runs, or it has ended by itself.
        ChatAppError: The cycle is cancelled, but its process cannot be ended.
    """
    cycle = store.cancel_cycle(by=by)
    began = time.monotonic()
    while cycle is None and starting() and time.monotonic() - began < STARTS_S:
        time.sleep(_LOOK_S)
        cycle = store.cancel_cycle(by=by)
    if cycle is None:
        raise RefusedError(nothing_runs(store))
    if not _ended(store, cycle):
        raise ChatAppError(
            say(
                "cycle {id} is cancelled and can change nothing more, but its process {process} "
                "cannot be ended; end that process by hand",
                id=cycle.id,
                process=str(cycle.pid),
            )
        )
    delete_checkpoints(data / "cycles", up_to=cycle.id)
    for staging in (data / "cycles" / f"{cycle.id:06d}").glob("staging-*"):
        shutil.rmtree(staging)
    return cycle


def nothing_runs(store: FeedbackStore) -> str:
    """Why there is nothing to cancel, in one line."""
    last = store.last_cycle()
    if last is None:
        return say("no cycle is running (none has run yet); nothing was cancelled")
    return say(
        "no cycle is running (cycle {id} has ended: {state}); nothing was cancelled",
        id=last.id,
        state=last.state,
    )


def _ended(store: FeedbackStore, cycle: Cycle) -> bool:
    """Whether the process is gone, once it was asked to end and, if need be, killed."""
    if cycle.pid == os.getpid():  # a thread of this process runs it, and sees its row
        return True
    for sent, patience in ((signal.SIGTERM, ANSWERS_S), (signal.SIGKILL, GONE_S)):
        began = time.monotonic()
        if store.cycle_process(cycle.id) is None:
            return True
        try:
            os.kill(cycle.pid, sent)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        while time.monotonic() - began < patience:
            if store.cycle_process(cycle.id) is None:
                return True
            time.sleep(_LOOK_S)
    return store.cycle_process(cycle.id) is None
