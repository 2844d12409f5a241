"""Promote an adapter, try it, roll back, or move the anchor: one rule for page, API and commands.

Invariants: only an adapter that verifies is served, or is the anchor: complete, undamaged, signed
with this installation's key, a policy, and made for the base that answers; one that the gate
rejected is served only if the operator insists, and the audit log keeps that with the reasons.
These functions write the store's row; a running server follows it within a second
(`served_adapter.py`), and cycles read it when they begin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chat_app.errors import RefusedError
from feedback_store.errors import say
from feedback_store.records import BASE_ADAPTER, Serving, Trial
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.signing import signing_key


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback serves now, and what it passed over.

    Attributes:
        serving: The served adapter.
        skipped: Adapters that were served later than it, each with the reason why not again.
    """

    serving: Serving
    skipped: dict[str, str]

    def facts(self) -> dict[str, Any]:
        """The document of the API and of `rollback --json`."""
        return {
            "serving": self.serving.adapter,
            "previous": self.serving.previous,
            "skipped": self.skipped,
        }

    def remarks(self) -> tuple[str, ...]:
        """A line for each that was skipped."""
        return tuple(f"skipped {name}: {reason}" for name, reason in self.skipped.items())


def promote(
    store: FeedbackStore, data: Path, name: str, *, force: bool = False, by: str = "operator"
) -> Serving:
    """Serve a policy adapter to new replies.

    Args:
        store: The store that names the served adapter.
        data: The data directory with the adapters and their key.
        name: A published adapter.
        force: Serve it even if the gate rejected it; it is published from then on.
        by: Who does it, for the audit log.

    Raises:
        UnknownRecordError: There is no such adapter.
        RefusedError: The gate rejected it, and `force` is not set; or it does not verify. The
            served adapter stays.
    """
    _require_allowed(store, name, force=force)
    _require_sound(store, data, name)
    return store.serve(name, by=by, force=force, guard=True)


def canary(
    store: FeedbackStore, data: Path, name: str, *, force: bool = False, by: str = "operator"
) -> Trial:
    """Let people compare a policy adapter with the served one, blind.

    It is served once they find it better, and rejected once they find it worse. The arguments are
    those of `promote`.

    Raises:
        UnknownRecordError: There is no such adapter.
        RefusedError: As for `promote`.
        ConflictError: It is served already.
    """
    _require_allowed(store, name, force=force)
    _require_sound(store, data, name)
    return store.start_trial("canary", name, store.serving().adapter, by=by, force=force)


def stop_trial(store: FeedbackStore, *, by: str = "operator") -> Trial:
    """End the open trial without a verdict; what is served stays.

    Raises:
        RefusedError: There is none.
    """
    trial = store.open_trial()
    if trial is None:
        raise RefusedError(say("people compare no adapters now; there is nothing to stop"))
    return store.end_trial(trial.id, "stopped", f"stopped by {by}", by=by)


def _require_allowed(store: FeedbackStore, name: str, *, force: bool) -> None:
    rejected = warning_of(store, name)
    if rejected is not None and not force:
        raise RefusedError(
            say(
                "{rejected}; it can be served anyway: with --force, in the API with "
                '"force": true, on the page with the tick',
                rejected=rejected,
            )
        )


def warning_of(store: FeedbackStore, name: str) -> str | None:
    """One line for who wants to serve a rejected adapter: who rejected it, and why; else None."""
    reasons = store.rejection(name)
    if reasons is None:
        return None
    cycle, stage = store.adapter(name).cycle_id, store.stages()[name]
    why = "; ".join(reasons) or say("no reason was noted")
    if cycle is None or stage != "rejected":
        return say("adapter {name} was {stage}: {why}", name=repr(name), stage=stage, why=why)
    return say(
        "adapter {name} was rejected by cycle {id}: {why}", name=repr(name), id=cycle, why=why
    )


def anchor(store: FeedbackStore, data: Path, name: str) -> str:
    """Let the KL budget of later cycles count from a published policy adapter.

    Raises:
        UnknownRecordError: There is no such adapter.
        RefusedError: It does not verify; the anchor stays.
    """
    _require_sound(store, data, name)
    return store.set_anchor(name, by="operator")


def roll_back(store: FeedbackStore, data: Path, *, by: str = "operator") -> RolledBack:
    """Serve the latest adapter that was served before this one and can be served again.

    The base always can; so if no adapter verifies any more, the base is served.

    Raises:
        RefusedError: Nothing else was served before, or nothing of it can be served.
    """
    skipped: dict[str, str] = {}
    for name in store.served_before():
        reason = warning_of(store, name) or _fault(store, data, name)
        if reason is None:
            return RolledBack(store.serve(name, by=by), skipped)
        skipped[name] = reason
    raise RefusedError(
        say(
            "no adapter that was served before this one can be served; a rollback is not "
            "possible: {why}",
            why="; ".join(skipped.values()) or say("there is none"),
        )
    )


def sign(store: FeedbackStore, data: Path, names: Sequence[str]) -> None:
    """Sign adapters whose origin the operator knows; the audit log names them.

    Raises:
        UnknownRecordError: There is no such adapter; none was signed.
        RefusedError: One is damaged.
    """
    from rlhf_core.errors import AdapterError
    from rlhf_core.model.adapters import sign_adapter

    key = signing_key(store, data)
    for name in names:
        store.adapter(name)
    for name in names:
        try:
            sign_adapter(data / "adapters" / name, key)
        except AdapterError as exc:
            raise RefusedError(str(exc)) from exc
        store.note_signed([name], by="operator")


def _require_sound(store: FeedbackStore, data: Path, name: str) -> None:
    store.adapter(name)
    fault = _fault(store, data, name)
    if fault is not None:
        raise RefusedError(fault)


def _fault(store: FeedbackStore, data: Path, name: str) -> str | None:
    """Why a policy adapter cannot be served on the base that answers, or None."""
    if name == BASE_ADAPTER:
        return None
    base = store.base()
    return fault_of(
        data / "adapters" / name,
        key=signing_key(store, data),
        base=None if base is None else base.fingerprint,
        kind="policy",
    )


def fault_of(
    adapter: Path,
    *,
    key: bytes | None,
    base: str | None = None,
    kind: Literal["policy", "reward"] | None = None,
) -> str | None:
    """The fault of an adapter's directory, or None; the arguments are those of `verify_adapter`."""
    from rlhf_core.errors import AdapterError
    from rlhf_core.model.adapters import verify_adapter

    try:
        verify_adapter(adapter, base=base, kind=kind, key=key)
    except AdapterError as exc:
        return str(exc)
    return None
