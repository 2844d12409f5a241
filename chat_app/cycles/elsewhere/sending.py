"""Write evidence: one file with all that a cycle on another machine needs.

It is a tar archive of `evidence.json`, which has the settings and a list of the other files, a
small store, and the adapters that a cycle begins from: the served policy, its reward model, the
anchor. The model is not in it; the other machine has it, or fetches it.
"""

import io
import secrets
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat_app import __version__
from chat_app.cycles.elsewhere.parcels import (
    EVIDENCE,
    FORMAT,
    described,
    digest_of,
    plain_files,
    written,
)
from chat_app.cycles.elsewhere.staging import staging_folder
from chat_app.errors import ChatAppError, RefusedError
from chat_app.settings import Settings
from feedback_store.datasets.evidence_copy import new_note
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import BASE_ADAPTER
from feedback_store.store import FeedbackStore
from feedback_store.whole_files import name_new, new_file
from rlhf_core.cycle.signing import signing_key


@dataclass(frozen=True, slots=True)
class SentEvidence:
    """Evidence that was written.

    Attributes:
        id: By which the store knows it.
        path: The file.
        comparisons: How many comparisons are in it.
        bytes: The file's size.
    """

    id: str
    path: Path
    comparisons: int
    bytes: int


def write_evidence(store: FeedbackStore, settings: Settings, file: Path) -> SentEvidence:
    """Write the evidence of a store to a new file, and note whose words are in it.

    Args:
        store: The store.
        settings: Resolved settings; the cycle runs with them.
        file: Where. The data directory needs room for twice the store meanwhile.

    Raises:
        RefusedError: The file is there, an adapter does not verify, or there is no room.
        CycleInProgressError: A cycle runs.
        ChatAppError: The file cannot be written.
    """
    target = file.resolve()
    if target.exists():
        raise RefusedError(f"{target} exists; choose another name, or move it away")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with staging_folder(settings.data, "evidence") as folder:
            _require_room(settings)
            begun = store.begin_evidence(str(target))
            return _pack(store, settings, folder, target, begun)
    except FeedbackStoreError:
        raise  # some of these are OSErrors, too
    except FileExistsError as exc:
        raise RefusedError(f"{target} exists; choose another name, or move it away") from exc
    except OSError as exc:
        raise ChatAppError(f"cannot write {target} ({exc}); choose another folder") from exc


def _require_room(settings: Settings) -> None:
    """The store is copied, and the copy is rewritten without what is taken out of it."""
    needed = 2 * settings.database.stat().st_size
    free = shutil.disk_usage(settings.data).free
    if free < needed:
        raise RefusedError(
            f"{settings.data} has {free:,} bytes free, and evidence needs {needed:,} there for a "
            "while, twice the store; make room"
        )


def _pack(
    store: FeedbackStore, settings: Settings, folder: Path, target: Path, begun: int
) -> SentEvidence:
    copy = folder / "feedback.db"
    unvoted = settings.cycle.data.most_unvoted_prompts
    people = store.copy_evidence(copy, unvoted=unvoted)
    with FeedbackStore(copy, allow_old_sqlite=True) as copied:
        served, anchor, last = copied.serving().adapter, copied.anchor(), copied.last_cycle()
        comparisons = copied.counts()["comparisons"]
    _copy_adapters(store, settings.data, folder, served, anchor)
    token, last_cycle = secrets.token_hex(32), last.id if last else 0
    files = [copy, *plain_files(folder / "adapters")]
    document = written(
        {
            "format": FORMAT,
            "program": __version__,
            "token": token,
            "last_cycle": last_cycle,
            "served": served,
            "settings": _settings(settings),
            "files": described(folder, files),
        }
    )
    note = new_note(digest_of(document), token, last_cycle, people)

    def publish(partial: Path) -> None:
        store.note_evidence(
            note, str(target), begun=begun, publish=lambda: name_new(partial, target)
        )

    with (
        new_file(target, publish) as partial,
        tarfile.open(partial, "w") as archive,
    ):
        member = tarfile.TarInfo(EVIDENCE)
        member.size = len(document)
        archive.addfile(member, io.BytesIO(document))
        for path in files:
            archive.add(path, path.relative_to(folder).as_posix(), filter=_nobodys)
    return SentEvidence(note.id, target, comparisons, target.stat().st_size)


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the name of this machine's user."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _settings(settings: Settings) -> dict[str, Any]:
    """What the cycle runs with; threads and who decodes replies are the other machine's."""
    return {
        "model": settings.model_name,
        "quantization": settings.packing,
        "choosing": settings.choices == "active",
        "reply": settings.reply.model_dump(),
        "cycle": settings.cycle.model_dump(exclude={"threads": True, "policy": {"generation"}}),
    }


def _copy_adapters(
    store: FeedbackStore, data: Path, folder: Path, served: str, anchor: str
) -> None:
    """Copy the adapters that a cycle begins from, if they verify."""
    from rlhf_core.errors import AdapterError
    from rlhf_core.model.adapters import verify_adapter

    reward = f"reward-{served.rpartition('-')[2]}"
    names = {served, anchor} - {BASE_ADAPTER}
    names |= {reward} if (data / "adapters" / reward).is_dir() else set()
    (folder / "adapters").mkdir()
    key = signing_key(store, data)
    for name in sorted(names):
        try:
            verify_adapter(data / "adapters" / name, key=key)
        except AdapterError as exc:
            raise RefusedError(str(exc)) from exc
        shutil.copytree(data / "adapters" / name, folder / "adapters" / name)
