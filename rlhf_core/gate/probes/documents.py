"""Files of JSON documents, or of lines: read whole, or refused in one line with its number."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInputError


def read_documents(path: Path) -> Iterator[tuple[int, Any]]:
    """Each document of a file with its line (of a JSON list: its place in the list).

    A name that ends with `.json` is a JSON list, one that ends with `.jsonl` has a JSON document a
    line, anything else a text a line.

    Raises:
        InvalidInputError: The file cannot be read, or a line is not UTF-8 or not JSON.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as exc:
        raise InvalidInputError(f"{path} cannot be read ({exc.strerror}); name a file") from exc
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise InvalidInputError(f"{path} line {line}: not UTF-8; save the file as UTF-8") from exc
    if path.suffix == ".json":
        whole = _json(path, 1, text)
        if not isinstance(whole, list):
            raise InvalidInputError(f"{path} line 1: {kind_of(whole)}; a .json file is one list")
        yield from enumerate(whole, start=1)
        return
    for number, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            yield number, _json(path, number, row) if path.suffix == ".jsonl" else row


def _json(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        line = number + getattr(exc, "lineno", 1) - 1
        reason = getattr(exc, "msg", exc)
        raise InvalidInputError(f"{path} line {line}: not JSON ({reason})") from exc


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    return "an empty text" if isinstance(value, str) else f"a {type(value).__name__}"
