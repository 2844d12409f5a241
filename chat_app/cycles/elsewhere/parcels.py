"""What travels between two machines: files with their checksums, and the seal of a result.

A parcel is a folder of plain files and one document that lists all of them. The document of a
result is sealed: HMAC-SHA256 with a token that only the evidence and the store have that wrote it.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chat_app.errors import ChatAppError
from feedback_store.whole_files import new_file

EVIDENCE, OUTCOME = "evidence.json", "outcome.json"
FORMAT = 1
VERDICTS = ("promoted", "passed", "rejected")  # how a cycle ended whose result travels
REPORTS = ("report.json", "metrics.jsonl", "config.json")  # the files of a result, and adapters
RESULT = ("evidence", "program", "cycle", "served", "parent", "seen", "used", "files", "seal")
MOST_BYTES = 200_000_000  # of a document; it lists ids
_PLACE = re.compile(r"[\w-]+(\.[\w-]+)*(/[\w-]+(\.[\w-]+)*){0,3}")  # no "..", nothing absolute

Files = dict[str, dict[str, Any]]  # path -> {"bytes", "sha256"}


def described(folder: Path, files: Iterable[Path]) -> Files:
    """The sizes and checksums of files, by their paths in a folder."""
    return {file.relative_to(folder).as_posix(): _describe(file) for file in sorted(files)}


def plain_files(folder: Path) -> list[Path]:
    """Every file in a folder and below it."""
    return [path for path in folder.rglob("*") if path.is_file()]


def require_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Check files against their sizes and checksums.

    Raises:
        ChatAppError: One is missing, was changed, or is none.
    """
    for name, stated in files.items():
        file = folder / require_place(name)
        if file.is_symlink() or not file.is_file():
            raise ChatAppError(f"{file} is missing, so {folder} is not whole; copy it again")
        if file.stat().st_size != stated["bytes"] or _describe(file) != stated:
            raise ChatAppError(f"{file} does not match its checksum; copy {folder} again")


def require_place(name: str) -> str:
    """The name of a file below a folder.

    Raises:
        ChatAppError: It may lead elsewhere.
    """
    if not _PLACE.fullmatch(name):
        raise ChatAppError(f"{name!r} is no name of a file that this program writes")
    return name


def written(document: Mapping[str, Any]) -> bytes:
    """A document as it is written: the same values give the same bytes."""
    return json.dumps(document, sort_keys=True, indent=1).encode()


def digest_of(document: bytes) -> str:
    """The id of a document."""
    return hashlib.sha256(document).hexdigest()


def seal_of(document: Mapping[str, Any], token: str) -> str:
    """The seal of a document, over all its fields but the seal."""
    fields = {name: value for name, value in document.items() if name != "seal"}
    return hmac.new(token.encode(), written(fields), hashlib.sha256).hexdigest()


def is_sealed(document: Mapping[str, Any], token: str) -> bool:
    """Whether a document has the seal that the token gives."""
    seal = ascii(document.get("seal"))  # other text cannot be compared in constant time
    return hmac.compare_digest(seal, ascii(seal_of(document, token)))


def write_document(folder: Path, name: str, document: Mapping[str, Any]) -> None:
    """Write a document; a kill leaves none, or a whole one."""
    with new_file(folder / name) as partial:
        partial.write_bytes(written(document))


def read_document(file: Path, needed: Iterable[str]) -> dict[str, Any]:
    """Read a document that has at least these fields.

    Raises:
        ChatAppError: It cannot be read, or is of another kind or version.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ChatAppError(f"{file} has {file.stat().st_size} bytes; nothing writes so much")
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise ChatAppError(f"{file} cannot be read ({exc}); copy it again") from exc
    return checked(document, needed, what=str(file))


def checked(document: Any, needed: Iterable[str], *, what: str) -> dict[str, Any]:
    """A document, if it is one of this version with these fields.

    Raises:
        ChatAppError: It is not.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ChatAppError(f"{what} is not of this version of feedback-chat; use the same on both")
    missing = [name for name in needed if name not in document]
    if missing:
        raise ChatAppError(f"{what} has no {missing[0]!r}; copy it again")
    return document


def _describe(file: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return {"bytes": file.stat().st_size, "sha256": digest.hexdigest()}
