"""Promote an adapter or roll back, by whatever way an operator asks: page, API or command.

Invariant: only an adapter whose files are complete and undamaged is served. A running server
follows the row within a second (`served_adapter.py`).
"""

from pathlib import Path

from chat_app.errors import ChatAppError, RefusedError
from feedback_store.records import BASE_ADAPTER, Serving
from feedback_store.store import FeedbackStore


def promote(store: FeedbackStore, adapters: Path, name: str, *, by: str) -> Serving:
    """Serve a published policy adapter; `adapters` is the folder of their directories.

    Raises:
        UnknownRecordError: There is no such adapter.
        ChatAppError: Its files are damaged; what was served stays.
    """
    store.adapter(name)
    fault = None if name == BASE_ADAPTER else fault_of(adapters / name)
    if fault is not None:
        raise ChatAppError(fault)
    return store.serve(name, by=by)


def roll_back(store: FeedbackStore, adapters: Path, *, by: str) -> Serving:
    """Serve the adapter that was served before this one.

    Raises:
        RefusedError: There is none.
        ChatAppError: Its files are damaged; what was served stays.
    """
    previous = store.serving().previous
    if previous is None:
        raise RefusedError("nothing was served before this adapter; there is no way back")
    return promote(store, adapters, previous, by=by)


def fault_of(adapter: Path) -> str | None:
    """What is wrong with an adapter's directory, or None."""
    from rlhf_core.errors import AdapterError
    from rlhf_core.model.adapters import verify_adapter

    try:
        verify_adapter(adapter)
    except AdapterError as exc:
        return str(exc)
    return None
