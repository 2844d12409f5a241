"""Take in the result of a cycle that ran on another machine.

What came is copied first, so that nobody changes what was checked. All is checked before anything
is added: the seal, every file, the base, the shapes, the parent.
The operator's `adapters add` is the decision to trust it: the adapters are signed with the key of
this installation. Added twice, it changes nothing; killed in between, the next call does it.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chat_app.cycles.elsewhere.parcels import (
    OUTCOME,
    REPORTS,
    RESULT,
    VERDICTS,
    digest_of,
    is_sealed,
    read_document,
    require_files,
    require_place,
    written,
)
from chat_app.cycles.elsewhere.staging import staging_folder
from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError
from chat_app.settings import Settings
from feedback_store.datasets.returned_cycles import ReturnedCycle
from feedback_store.errors import FeedbackStoreError, UnknownRecordError
from feedback_store.records import Cycle
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.alarms import raise_alarms_safely
from rlhf_core.cycle.signing import signing_key

KINDS: tuple[Literal["reward", "policy"], ...] = ("reward", "policy")


@dataclass(frozen=True, slots=True)
class AddedCycle:
    """A result that was taken in; `again` if it had been before."""

    cycle: Cycle
    again: bool


def add_result(store: FeedbackStore, settings: Settings, folder: Path) -> AddedCycle:
    """Record a cycle that ran elsewhere, and serve its adapter if the gate let it through.

    Args:
        store: The store that wrote the evidence.
        settings: Of its data directory.
        folder: What `cycle --out` made.

    Raises:
        RefusedError: The result is not complete, not of this installation, or of another base.
        ConflictError, CycleInProgressError: Another cycle runs, or has used the votes since.
        ChatAppError: A file was changed or is missing. Nothing was written in any of these cases.
    """
    document = _read(store, folder)
    digest = digest_of(written(document))
    known = store.added_cycle(document["evidence"], digest)
    if known is not None:
        return AddedCycle(known, again=True)
    with staging_folder(settings.data, "adding") as staged:
        copy, report = staged / "result", staged / "report"
        _copy(folder, copy, document)
        try:
            bases = _require_sound(store, settings, copy, document)
        except ChatAppError as exc:
            raise type(exc)(str(exc).replace(str(copy), str(folder))) from exc
        report.mkdir(mode=0o700)
        for name in REPORTS:
            (copy / name).rename(report / name)
        forgotten = store.forgotten_since(document["evidence"])
        if forgotten:
            _empty(report / "report.json")
        adapters = _publish(store, settings, copy, document, bases)
        try:
            done = store.add_cycle(
                _result(document, digest),
                adapters,
                forgotten=forgotten,
                place=lambda number: report.rename(_place(settings, number)),
            )
        except (FeedbackStoreError, OSError):
            for name in adapters.values():
                shutil.rmtree(settings.adapters / name)
            raise
    raise_alarms_safely(store, settings.cycle.alarms)
    return AddedCycle(done, again=False)


def _read(store: FeedbackStore, folder: Path) -> dict[str, Any]:
    """The sealed document of a result of this installation."""
    if not folder.is_dir():
        raise InvalidRequestError(
            f"there is no folder {folder}; give the one that `cycle --out` made"
        )
    if not (folder / OUTCOME).is_file():
        raise RefusedError(
            f"{folder} has no {OUTCOME}: its cycle has not come to a verdict; run the same command "
            "there again, then copy the folder again"
        )
    document = read_document(folder / OUTCOME, RESULT)
    note = store.evidence(str(document["evidence"]))
    if note is None:
        raise RefusedError(
            f"this installation did not write the evidence of {folder}; add the result where the "
            "evidence was written"
        )
    if not is_sealed(document, note.token):
        raise ChatAppError(f"{folder / OUTCOME} was changed after it was written; copy it again")
    return document


def _copy(folder: Path, copy: Path, document: dict[str, Any]) -> None:
    """Copy the files that a result names; what is missing, or a link, is found by the check."""
    try:
        for name in document["files"]:
            source, target = folder / require_place(name), copy / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if source.is_symlink() or source.is_file():
                shutil.copyfile(source, target, follow_symlinks=False)
    except OSError as exc:
        raise ChatAppError(f"cannot copy {folder} ({exc}); nothing was added") from exc


def _require_sound(
    store: FeedbackStore, settings: Settings, folder: Path, document: dict[str, Any]
) -> dict[str, str]:
    """Check everything of a result; the fingerprints of its adapters' bases, by kind."""
    from rlhf_core.errors import AdapterError
    from rlhf_core.model.adapters import verify_adapter

    require_files(folder, document["files"])
    if document["cycle"]["state"] not in VERDICTS:
        raise ChatAppError(f"the cycle of {folder} was {document['cycle']['state']}: no verdict")
    try:
        store.adapter(document["parent"])
    except UnknownRecordError as exc:
        raise RefusedError(f"{exc} It is what the cycle of {folder} began from") from exc
    base, bases = store.base(), {}
    for kind, path in _adapters(folder, document).items():
        try:
            found = verify_adapter(path, kind=kind, base=base.fingerprint if base else None)
        except AdapterError as exc:
            raise RefusedError(str(exc)) from exc
        bases[str(kind)] = found.base
    _require_shapes(settings, folder, document)
    return bases


def _adapters(folder: Path, document: dict[str, Any]) -> dict[Literal["reward", "policy"], Path]:
    """The result's adapters by kind."""
    names = {name.split("/")[1] for name in document["files"] if name.startswith("adapters/")}
    return {
        kind: folder / "adapters" / name
        for kind in KINDS
        for name in names
        if name.rpartition("-")[0] == kind
    }


def _require_shapes(settings: Settings, folder: Path, document: dict[str, Any]) -> None:
    """A policy has the matrices of the adapter that it began as."""
    from rlhf_core.model.adapter_files import shapes_of
    from rlhf_core.model.sources import ADAPTER_WEIGHTS

    policy = _adapters(folder, document).get("policy")
    parent = settings.adapters / document["parent"] / ADAPTER_WEIGHTS
    if policy is None or not parent.is_file():
        return  # of the base, which has none, the fingerprint tells
    if shapes_of(policy / ADAPTER_WEIGHTS) != shapes_of(parent):
        raise RefusedError(f"{policy} has other matrices than {parent.parent}, which it began as")


def _publish(
    store: FeedbackStore,
    settings: Settings,
    folder: Path,
    document: dict[str, Any],
    bases: dict[str, str],
) -> dict[str, str]:
    """Move the adapters to new names, signed with the key of here; their names by kind."""
    from rlhf_core.errors import AdapterError
    from rlhf_core.model.adapter_files import CARD
    from rlhf_core.model.adapters import MANIFEST, publish_adapter

    found = _adapters(folder, document)
    number = store.next_adapter_number() if found else 0
    key, names = signing_key(store, settings.data), {}
    for kind, path in found.items():
        names[kind] = f"{kind}-{number:06d}"
        (path / MANIFEST).unlink()
        if (card := path / CARD).is_file():  # an earlier version writes none
            card.write_text(card.read_text("utf-8").replace(path.name, names[kind]), "utf-8")
        try:
            publish_adapter(
                path,
                settings.adapters / names[kind],
                kind=kind,
                base=bases[kind],
                parent=document["parent"],
                extra={"evidence": document["evidence"]},
                key=key,
            )
        except AdapterError as exc:
            raise ChatAppError(str(exc)) from exc
    return {str(kind): name for kind, name in names.items()}


def _place(settings: Settings, number: int) -> Path:
    target = settings.data / "cycles" / f"{number:06d}"
    target.parent.mkdir(exist_ok=True, mode=0o700)
    if target.exists():  # of a call that was killed before the cycle had its row
        shutil.rmtree(target)
    return target


def _empty(report: Path) -> None:
    """Somebody was forgotten, and samples do not say whose words they quote."""
    found = json.loads(report.read_text())
    quotes = [name for name in ("samples", "probe_samples") if name in found]
    report.write_text(json.dumps(found | {name: [] for name in quotes}, indent=2))


def _result(document: dict[str, Any], digest: str) -> ReturnedCycle:
    cycle = document["cycle"]
    return ReturnedCycle(
        evidence=document["evidence"],
        digest=digest,
        served=document["served"],
        parent=document["parent"],
        state=cycle["state"],
        reasons=tuple(cycle["reasons"]),
        metrics=cycle["metrics"],
        config=cycle["config"],
        promotion=cycle["config"]["promotion"],
        seen=document["seen"],
        comparisons=tuple(document["used"]["comparisons"]),
        prompts=tuple(document["used"]["prompts"]),
        finished_at=cycle["finished_at"],
    )
