"""Adapter directories on disk: written once, verified before anything in them is parsed.

A directory is complete when it holds ``manifest.json``, which is written last and names every
other file with its size and SHA-256. Publishing renames a finished staging directory, so a crash
leaves either no adapter or a complete one. Nothing here knows which adapter is being served.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from rlhf_core.errors import AdapterError

MANIFEST = "manifest.json"
ALLOWED_SUFFIXES = {".json", ".safetensors"}  # never pickle: loading it runs code
MAX_MANIFEST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an adapter directory says about itself."""

    name: str
    kind: Literal["policy", "reward"]
    base: str
    parent: str | None
    files: dict[str, dict[str, Any]]  # path -> {"bytes", "sha256"}
    extra: dict[str, Any] = field(default_factory=dict)


def publish_adapter(
    staging: Path,
    target: Path,
    *,
    kind: Literal["policy", "reward"],
    base: str,
    parent: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Manifest:
    """Turn a finished staging directory into an adapter; the manifest is written last.

    Raises:
        AdapterError: ``target`` exists already, or ``staging`` holds a file that is not allowed.
    """
    if target.exists():
        raise AdapterError(f"adapter {target} exists already; adapters are never overwritten")
    files = {str(path.relative_to(staging)): _describe(path) for path in _files(staging)}
    if not any(name.endswith(".safetensors") for name in files):
        raise AdapterError(f"adapter {staging} holds no .safetensors file; nothing to publish")
    manifest = Manifest(target.name, kind, base, parent, files, dict(extra or {}))
    for name in files:
        _require_finite(staging / name)
        flush(staging / name)
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    (staging / MANIFEST).write_text(text)
    flush(staging / MANIFEST)
    flush(staging)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(target)  # atomic, and refuses a target that appeared meanwhile
    except OSError as exc:
        raise AdapterError(f"adapter {target} could not be published: {exc}") from exc
    flush(target.parent)
    return manifest


def verify_adapter(path: Path, *, base: str | None = None) -> Manifest:
    """Check every byte of an adapter directory against its manifest.

    Args:
        path: The adapter directory.
        base: Fingerprint of the base the adapter is meant for; ``None`` accepts any.

    Raises:
        AdapterError: A file is missing, extra, changed, a link or not finite, or the adapter is
            for another base.
    """
    manifest = _read_manifest(path)
    found = {str(p.relative_to(path)): p for p in _files(path)}
    missing, unknown = manifest.files.keys() - found.keys(), found.keys() - manifest.files.keys()
    if missing or unknown:
        raise AdapterError(
            f"adapter {path} does not match its manifest: missing {sorted(missing)}, "
            f"not listed {sorted(unknown)}; restore it from a backup or remove it"
        )
    for name, stated in manifest.files.items():
        if _describe(found[name]) != stated:
            raise AdapterError(
                f"adapter {path} was changed after it was written: {name} does not match its "
                f"checksum; restore it from a backup or remove it"
            )
    if base is not None and manifest.base != base:
        raise AdapterError(
            f"adapter {path} was trained on base {manifest.base}, not {base}; "
            f"load the base it belongs to"
        )
    for file in found.values():
        _require_finite(file)
    return manifest


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if path.is_symlink() or file.is_symlink() or not file.is_file():
        raise AdapterError(
            f"adapter {path} has no manifest; it was not fully written. Remove the directory"
        )
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise AdapterError(f"adapter {path} has a manifest of {file.stat().st_size} bytes")
    try:
        manifest = Manifest(**json.loads(file.read_text()))
        sizes = [int(stated["bytes"]) for stated in manifest.files.values()]
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise AdapterError(f"adapter {path} has a manifest that cannot be read: {exc}") from exc
    if manifest.name != path.name or min(sizes, default=-1) < 0:
        raise AdapterError(f"adapter {path} has the manifest of {manifest.name!r}")
    return manifest


def _files(path: Path) -> Iterator[Path]:
    """Every file below ``path`` but the manifest; links and other kinds of files are refused."""
    if not path.is_dir():
        raise AdapterError(f"adapter {path} is not a directory")
    for entry in sorted(path.rglob("*")):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise AdapterError(f"adapter {path} holds {entry.name}, which is not a plain file")
        if entry.is_dir() or entry == path / MANIFEST:
            continue
        if entry.suffix not in ALLOWED_SUFFIXES:
            raise AdapterError(
                f"adapter {path} holds {entry.name}; only .json and .safetensors are allowed"
            )
        yield entry


def _describe(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _require_finite(path: Path) -> None:
    if path.suffix != ".safetensors":
        return
    try:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safe_open is not a mapping
                tensor = tensors.get_tensor(name)
                if not math.isfinite(tensor.to(torch.float64).abs().sum().item()):
                    raise AdapterError(f"adapter file {path} holds a NaN or infinity in {name}")
    except AdapterError:
        raise
    except Exception as exc:  # safetensors raises its own error class for every malformed header
        raise AdapterError(f"adapter file {path} cannot be read: {exc}") from exc


def flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
