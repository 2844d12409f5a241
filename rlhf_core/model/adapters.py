"""Adapter directories on disk: written once, verified before anything in them is parsed.

A directory is complete when it holds ``manifest.json``, which is written last and names every
other file with its size and SHA-256. Publishing renames a finished staging directory, so a crash
leaves either no adapter or a complete one. With a key, the manifest is signed: whoever has no key
can change neither a file nor what the manifest says. Nothing here knows where the key is kept, or
which adapter is being served.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rlhf_core.errors import AdapterError
from rlhf_core.model.adapter_files import CARD, require_sound

MANIFEST = "manifest.json"
ALLOWED_SUFFIXES = {".json", ".safetensors"}  # never pickle: loading it runs code
MAX_MANIFEST_BYTES = 1_000_000
KINDS = ("policy", "reward")
# what JSON of another shape raises: infinite sizes, other types, missing fields, lists too deep
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an adapter directory says about itself."""

    name: str
    kind: Literal["policy", "reward"]
    base: str
    parent: str | None
    files: dict[str, dict[str, Any]]  # path -> {"bytes", "sha256"}
    extra: dict[str, Any] = field(default_factory=dict)
    signature: str | None = None  # HMAC-SHA256 of all the other fields


def publish_adapter(
    staging: Path,
    target: Path,
    *,
    kind: Literal["policy", "reward"],
    base: str,
    parent: str | None = None,
    extra: Mapping[str, Any] | None = None,
    key: bytes | None = None,
) -> Manifest:
    """Turn a finished staging directory into an adapter; the manifest is written last.

    Args:
        staging: What was trained, in files.
        target: The adapter's directory.
        kind: What it is for.
        base: Fingerprint of the base that it was trained on.
        parent: The adapter that it began as.
        extra: More facts for the manifest.
        key: Signs the manifest; without it the adapter is not signed.

    Raises:
        AdapterError: ``target`` exists already, or ``staging`` holds a file, a weight or a setting
            that is not allowed.
    """
    if target.exists():
        raise AdapterError(f"adapter {target} exists already; adapters are never overwritten")
    files = {str(path.relative_to(staging)): _describe(path) for path in _files(staging)}
    if not any(name.endswith(".safetensors") for name in files):
        raise AdapterError(f"adapter {staging} holds no .safetensors file; nothing to publish")
    manifest = _signed(Manifest(target.name, kind, base, parent, files, dict(extra or {})), key)
    for name in files:
        require_sound(staging / name)
        flush(staging / name)
    _write(manifest, staging / MANIFEST)
    flush(staging)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(target)  # atomic, and refuses a target that appeared meanwhile
    except OSError as exc:
        raise AdapterError(f"adapter {target} could not be published: {exc}") from exc
    flush(target.parent)
    return manifest


def sign_adapter(path: Path, key: bytes) -> Manifest:
    """Sign an adapter that was published without a key, or with another one.

    Raises:
        AdapterError: As for `verify_adapter` without a key; nothing is changed.
    """
    manifest = _signed(verify_adapter(path), key)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        _write(manifest, partial)
        partial.replace(path / MANIFEST)
        flush(path)
    except OSError as exc:
        raise AdapterError(f"adapter {path} cannot be signed: {exc}") from exc
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def verify_adapter(
    path: Path,
    *,
    base: str | None = None,
    kind: Literal["policy", "reward"] | None = None,
    key: bytes | None = None,
) -> Manifest:
    """Check every byte of an adapter directory against its manifest.

    Args:
        path: The adapter directory.
        base: Fingerprint of the base the adapter is meant for; ``None`` accepts any.
        kind: What it is meant for; ``None`` accepts any.
        key: The key that signed the manifest; ``None`` looks at no signature. Then only damage is
            found, and no change by somebody who wrote new checksums.

    Raises:
        AdapterError: A file is missing, extra, changed, a link, not finite or absurd; the adapter
            is for another base, of another kind or not signed with the key.
    """
    try:
        manifest = _read_manifest(path)
        files = _require_files(path, manifest)
        if key is not None:
            _require_signature(path, manifest, key)
        _require_purpose(path, manifest, base=base, kind=kind)
        for file in files:
            require_sound(file)
    except OSError as exc:
        raise AdapterError(f"adapter {path} cannot be read: {exc}") from exc
    return manifest


def _signed(manifest: Manifest, key: bytes | None) -> Manifest:
    return replace(manifest, signature=None if key is None else _signature(manifest, key))


def _signature(manifest: Manifest, key: bytes) -> str:
    fields = asdict(replace(manifest, signature=None))
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _write(manifest: Manifest, file: Path) -> None:
    file.write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True))
    flush(file)


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
    except _UNREADABLE as exc:
        raise AdapterError(f"adapter {path} has a manifest that cannot be read: {exc}") from exc
    if manifest.name != path.name or min(sizes, default=-1) < 0:
        raise AdapterError(f"adapter {path} has the manifest of {manifest.name!r}")
    return manifest


def _require_signature(path: Path, manifest: Manifest, key: bytes) -> None:
    advice = f"if you know where it comes from: `feedback-chat adapters sign {path.name}`"
    if manifest.signature is None:
        raise AdapterError(f"adapter {path} is not signed; {advice}")
    # as ASCII, since other text cannot be compared in constant time
    if not hmac.compare_digest(ascii(manifest.signature), ascii(_signature(manifest, key))):
        raise AdapterError(
            f"adapter {path} was signed with another key, or its manifest was changed; restore it "
            f"from a backup, or {advice}"
        )


def _require_purpose(path: Path, manifest: Manifest, *, base: str | None, kind: str | None) -> None:
    if manifest.kind not in KINDS or kind not in (None, manifest.kind):
        raise AdapterError(
            f"adapter {path} is a {manifest.kind!r} adapter; here only a "
            f"{kind or ' or '.join(KINDS)} adapter can be used"
        )
    if base not in (None, manifest.base):
        raise AdapterError(
            f"adapter {path} was trained on base {manifest.base}, not {base}; "
            f"load the base it belongs to"
        )


def _require_files(path: Path, manifest: Manifest) -> list[Path]:
    """The files, which are those of the manifest, byte by byte."""
    found = {str(p.relative_to(path)): p for p in _files(path)}
    missing, unknown = manifest.files.keys() - found.keys(), found.keys() - manifest.files.keys()
    if missing or unknown:
        raise AdapterError(
            f"adapter {path} does not match its manifest: missing {sorted(missing)}, "
            f"not listed {sorted(unknown)}; restore it from a backup or remove it"
        )
    for name, stated in manifest.files.items():
        # the size first: to hash a file that was made huge would take for ever
        if found[name].stat().st_size != stated["bytes"] or _describe(found[name]) != stated:
            raise AdapterError(
                f"adapter {path} was changed after it was written: {name} does not match its "
                f"checksum; restore it from a backup or remove it"
            )
    return list(found.values())


def _files(path: Path) -> Iterator[Path]:
    """Every file below ``path`` but the manifest; links of both kinds and devices are refused."""
    if not path.is_dir():
        raise AdapterError(f"adapter {path} is not a directory")
    for entry in sorted(path.rglob("*")):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise AdapterError(f"adapter {path} holds {entry.name}, which is not a plain file")
        if entry.is_dir():
            continue
        if entry.stat().st_nlink > 1:  # who writes to its other name changes this file
            raise AdapterError(
                f"adapter {path} holds {entry.name}, which has another name elsewhere (a hard "
                "link); put a copy in its place"
            )
        if entry == path / MANIFEST:
            continue
        if entry.suffix not in ALLOWED_SUFFIXES and entry != path / CARD:
            raise AdapterError(
                f"adapter {path} holds {entry.name}; only .json and .safetensors are allowed, and "
                f"{CARD}"
            )
        yield entry


def _describe(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
