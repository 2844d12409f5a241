"""Run a cycle on evidence, in a folder where nothing else is: no server, no store.

While it runs, `work/` is its data directory, with a store of its own and a key of its own. When it
has come to a verdict, its results are beside that, `outcome.json` is written last, and `work/` goes
with all that people said, as it does once the cycle was refused. What was killed or has failed
keeps it, and goes on when it is started again.
"""

import errno
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from chat_app import __version__
from chat_app.cycles.elsewhere.parcels import (
    EVIDENCE,
    FORMAT,
    OUTCOME,
    REPORTS,
    RESULT,
    VERDICTS,
    checked,
    described,
    digest_of,
    plain_files,
    read_document,
    require_files,
    require_place,
    seal_of,
    write_document,
)
from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError
from chat_app.profile import with_profile
from chat_app.settings import Settings
from feedback_store.records import Cycle
from feedback_store.store import FeedbackStore
from rlhf_core.config import CycleSettings, ReplySettings
from rlhf_core.cycle.signing import adapter_key

Progress = Callable[[str, float, dict[str, float]], None]
WORK = "work"  # the folder in the result's folder that is the cycle's data directory
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, a limit of a process
FIELDS = ("program", "token", "last_cycle", "served", "settings", "files")


def run_elsewhere(
    evidence: Path,
    out: Path,
    own: Settings,
    *,
    progress: Progress,
    model: str | None = None,
) -> Cycle:
    """Run a cycle on evidence and leave what `adapters add` takes.

    Args:
        evidence: The file that `feedback-chat evidence` wrote.
        out: A folder that is new, empty, or of an earlier run on the same evidence.
        own: The settings of this machine, of which only those count that decide nothing: threads,
            who decodes replies and where, whether an old SQLite may be used.
        progress: As for `run_cycle`.
        model: Where the model is on this machine; None: where the evidence says.

    Returns:
        The cycle as it ended; of a result that is there already, the same again.

    Raises:
        InvalidRequestError: `out` is a file or has something else in it, or `evidence` is no
            evidence.
        RefusedError: Another process works in `out`, or `out` is of other evidence.
        ChatAppError: `evidence` is damaged, or `out` cannot be written.
    """
    digest, document = _read(evidence)
    old = own.allow_old_sqlite
    with _alone(out):
        if (out / OUTCOME).exists():
            outcome = read_document(out / OUTCOME, RESULT)
            _require_same(outcome["evidence"], digest, out)
            shutil.rmtree(out / WORK, ignore_errors=True)
            fields = outcome["cycle"]
            return Cycle(**fields | {"reasons": tuple(fields["reasons"])})
        _unpack(evidence, digest, document, out, old=old)
        document["settings"]["model"] = model or document["settings"]["model"]
        done = _cycle(out / WORK, document, own, progress)
        if done.state in VERDICTS:
            _hand_over(out, digest, document, done, old=old)
        shutil.rmtree(out / WORK)  # of a refused one, too, which nothing resumes
        return done


def _read(evidence: Path) -> tuple[str, dict[str, Any]]:
    """The id of evidence, and its document."""
    try:
        with tarfile.open(evidence, "r:") as archive:
            source = archive.extractfile(EVIDENCE)
            text = source.read() if source else b""
        document = json.loads(text)
    except OSError as exc:
        raise InvalidRequestError(f"cannot read {evidence}: {exc.strerror}") from exc
    except (tarfile.TarError, KeyError, ValueError) as exc:
        raise InvalidRequestError(
            f"{evidence} is not evidence, or is cut off; `feedback-chat evidence FILE` writes it"
        ) from exc
    checked(document, FIELDS, what=str(evidence))
    if document["program"] != __version__:
        raise RefusedError(
            f"{evidence} was written by version {document['program']}, and this is {__version__}; "
            "use the same version on both machines"
        )
    return digest_of(text), document


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder, so that no second process trains in it."""
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(out / ".lock", timeout=0).acquire()
    except Timeout as exc:
        raise RefusedError(f"another process works in {out}; give another folder by --out") from exc
    except (FileExistsError, NotADirectoryError) as exc:
        raise InvalidRequestError(f"{out} is not a folder; give another name by --out") from exc
    except OSError as exc:
        raise ChatAppError(f"cannot write {out} ({exc}); give another folder by --out") from exc
    with lock:
        try:
            yield
        except OSError as exc:
            if exc.errno not in FULL:
                raise
            raise ChatAppError(
                f"cannot write {out} ({exc.strerror}); make room, or give another folder by --out"
            ) from exc


def _require_same(known: str, digest: str, out: Path) -> None:
    if known != digest:
        raise RefusedError(f"{out} is of other evidence; give another folder by --out")


def _unpack(
    evidence: Path, digest: str, document: Mapping[str, Any], out: Path, *, old: bool
) -> None:
    """Make the cycle's data directory, unless an earlier run made it."""
    work, partial = out / WORK, out / ".unpacking"
    if work.is_dir():
        _require_same(digest_of((work / EVIDENCE).read_bytes()), digest, out)
        return
    strangers = [path.name for path in out.iterdir() if path.name not in (".lock", partial.name)]
    if strangers:
        raise InvalidRequestError(
            f"{out} is not empty (it has {strangers[0]!r}); give a new folder"
        )
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(evidence, "r:") as archive:
            for name in (EVIDENCE, *document["files"]):
                target = partial / require_place(name)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                source = archive.extractfile(name)
                if source is None:
                    raise KeyError(name)
                with target.open("xb") as copy:
                    shutil.copyfileobj(source, copy)
        require_files(partial, document["files"])
    except (KeyError, tarfile.TarError, EOFError) as exc:
        raise ChatAppError(f"{evidence} is cut off or damaged ({exc}); copy it again") from exc
    except ChatAppError as exc:
        raise ChatAppError(str(exc).replace(str(partial), str(evidence))) from exc
    else:
        _sign(partial, old=old)
        partial.rename(work)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sign(data: Path, *, old: bool) -> None:
    """Sign the adapters that came with the evidence, whose checksums are right, with a key of here.

    So that the cycle is the same as on the server's machine, whose key stays there.
    """
    from rlhf_core.model.adapters import sign_adapter

    key = adapter_key(data)
    folders = sorted((data / "adapters").glob("*-*"))
    for folder in folders:
        sign_adapter(folder, key)
    with FeedbackStore(data / "feedback.db", allow_old_sqlite=old) as store:
        store.note_signed([folder.name for folder in folders], by="evidence")


def _cycle(work: Path, document: Mapping[str, Any], own: Settings, progress: Progress) -> Cycle:
    """Run the cycle, or find the one that has ended; then only the hand-over was missing."""
    from rlhf_core.cycle import run_cycle

    with FeedbackStore(work / "feedback.db", allow_old_sqlite=own.allow_old_sqlite) as store:
        last = store.last_cycle()
    if last is not None and last.id > document["last_cycle"] and last.state in VERDICTS:
        return last
    given = document["settings"]
    here = with_profile(own.model_copy(update={"model": given["model"], "data": work})).cycle
    cycle = given["cycle"] | {"threads": here.threads}
    cycle["policy"] = cycle["policy"] | {"generation": here.policy.generation}
    return run_cycle(
        work,
        CycleSettings.model_validate(cycle),
        reply=ReplySettings.model_validate(given["reply"]),
        model=given["model"],
        quantization=given["quantization"],
        progress=progress,
        choosing=given["choosing"],
        servers=own.servers,
        allow_old_sqlite=own.allow_old_sqlite,
    )


def _hand_over(
    out: Path, digest: str, document: Mapping[str, Any], done: Cycle, *, old: bool
) -> None:
    """Put the results beside `work/`, then the outcome."""
    work = out / WORK
    with FeedbackStore(work / "feedback.db", allow_old_sqlite=old) as store:
        made = [adapter for adapter in store.adapters() if adapter.cycle_id == done.id]
        used, seen = store.uses_of(done.id)
    for adapter in made:
        shutil.copytree(
            work / "adapters" / adapter.name, out / "adapters" / adapter.name, dirs_exist_ok=True
        )
    for name in REPORTS:
        shutil.copyfile(work / "cycles" / f"{done.id:06d}" / name, out / name)
    files = [*plain_files(out / "adapters"), *(out / name for name in REPORTS)]
    outcome = {
        "format": FORMAT,
        "evidence": digest,
        "program": __version__,
        "cycle": asdict(done),
        "served": document["served"],
        "parent": made[0].parent if made else document["served"],
        "seen": seen,
        "used": used,
        "files": described(out, files),
    }
    sealed = outcome | {"seal": seal_of(outcome, document["token"])}
    write_document(out, OUTCOME, sealed)
