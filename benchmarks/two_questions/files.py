"""Files that are there whole or not at all, so that a run that is killed can be gone on with."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and move it there; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
