"""Promote an adapter or roll back: one rule for the page, the API and the commands.

Invariant: only an adapter whose files are complete and undamaged is served. These functions write
the store's row; a running server follows it within a second (`served_adapter.py`).
"""

from pathlib import Path

from chat_app.errors import ChatAppError, RefusedError
from feedback_store.records import BASE_ADAPTER, Serving
from feedback_store.store import FeedbackStore


def promote(store: FeedbackStore, adapters: Path, name: str) -> Serving:
    """Serve a published policy adapter; `adapters` is the folder of their directories.

    Raises:
        UnknownRecordError: There is no such adapter.
        ChatAppError: Its files are damaged; the served adapter stays.
    """
    store.adapter(name)
    fault = None if name == BASE_ADAPTER else fault_of(adapters / name)
    if fault is not None:
        raise ChatAppError(fault)
    return store.serve(name, by="operator")


def roll_back(store: FeedbackStore, adapters: Path) -> Serving:
    """Serve the adapter that was served before this one.

    Raises:
        RefusedError: There is none.
        ChatAppError: Its files are damaged; the served adapter stays.
    """
    previous = store.serving().previous
    if previous is None:
        raise RefusedError("no adapter was served before this one; a rollback is not possible")
    return promote(store, adapters, previous)


def fault_of(adapter: Path) -> str | None:
    """The fault of an adapter's directory, or None."""
    from rlhf_core.errors import AdapterError
    from rlhf_core.model.adapters import verify_adapter

    try:
        verify_adapter(adapter)
    except AdapterError as exc:
        return str(exc)
    return None
