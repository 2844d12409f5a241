"""Promote an adapter, roll back, or move the anchor: one rule for page, API and commands.

Invariants: only an adapter whose files are complete and undamaged is served, or is the anchor; one
that the gate rejected is served only if the operator insists, and the audit log keeps that with the
reasons. These functions write the store's row; a running server follows it within a second
(`served_adapter.py`), and cycles read it when they begin.
"""

from pathlib import Path

from chat_app.errors import ChatAppError, RefusedError
from feedback_store.records import BASE_ADAPTER, Serving
from feedback_store.store import FeedbackStore


def promote(store: FeedbackStore, adapters: Path, name: str, *, force: bool = False) -> Serving:
    """Serve a policy adapter to new replies.

    Args:
        store: The store that names the served adapter.
        adapters: The folder of the adapters' directories.
        name: A published adapter.
        force: Serve it even if the gate rejected it; it is published from then on.

    Raises:
        UnknownRecordError: There is no such adapter.
        RefusedError: The gate rejected it, and `force` is not set.
        ChatAppError: Its files are damaged; the served adapter stays.
    """
    rejected = warning_of(store, name)
    if rejected is not None and not force:
        how = 'with --force, in the API with "force": true, on the page with the tick'
        raise RefusedError(f"{rejected}; it can be served anyway: {how}")
    _require_undamaged(store, adapters, name)
    return store.serve(name, by="operator", force=force)


def warning_of(store: FeedbackStore, name: str) -> str | None:
    """One line for who wants to serve a rejected adapter: the gate's reasons; else None."""
    reasons = store.rejection(name)
    if reasons is None:
        return None
    cycle = store.adapter(name).cycle_id
    by = "" if cycle is None else f" by cycle {cycle}"
    return f"adapter {name!r} was rejected{by}: {'; '.join(reasons) or 'no reason was noted'}"


def anchor(store: FeedbackStore, adapters: Path, name: str) -> str:
    """Let the KL budget of later cycles count from a published policy adapter.

    Raises:
        UnknownRecordError: There is no such adapter.
        ChatAppError: Its files are damaged; the anchor stays.
    """
    _require_undamaged(store, adapters, name)
    return store.set_anchor(name, by="operator")


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


def _require_undamaged(store: FeedbackStore, adapters: Path, name: str) -> None:
    store.adapter(name)
    fault = None if name == BASE_ADAPTER else fault_of(adapters / name)
    if fault is not None:
        raise ChatAppError(fault)


def fault_of(adapter: Path) -> str | None:
    """The fault of an adapter's directory, or None."""
    from rlhf_core.errors import AdapterError
    from rlhf_core.model.adapters import verify_adapter

    try:
        verify_adapter(adapter)
    except AdapterError as exc:
        return str(exc)
    return None
