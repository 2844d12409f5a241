"""The key that signs the adapters of a data directory, and adapters from before there was one.

The server and the cycles read the same file; whoever needs it first makes it. Invariant: once a
store says since when its adapters are signed, none without a signature is used.
"""

import logging
from pathlib import Path

from feedback_store import BASE_ADAPTER, FeedbackStore
from feedback_store.whole_files import secret
from rlhf_core.errors import AdapterError

log = logging.getLogger(__name__)


def adapter_key(data: Path) -> bytes:
    """The key of a data directory.

    Raises:
        AdapterError: It can be neither read nor made.
    """
    try:
        return secret(data / "secrets" / "adapter-key").encode()
    except OSError as exc:
        raise AdapterError(
            f"the key of the adapters in {data / 'secrets'} cannot be used: {exc.strerror}; "
            "restore it from a backup"
        ) from exc


def signing_key(store: FeedbackStore, data: Path) -> bytes:
    """The same key; the first call on a store of an earlier version signs its adapters.

    That happens once for a store, and only to adapters that it names and whose checksums are right.

    Raises:
        AdapterError: As for `adapter_key`.
    """
    key = adapter_key(data)
    if store.signed_since() is None:
        names = [adapter.name for adapter in store.adapters() if adapter.name != BASE_ADAPTER]
        signed = [name for name in names if _sign(data / "adapters" / name, key)]
        store.note_signed(signed, by="the first start of a version that signs")
    return key


def checking_key(store: FeedbackStore, data: Path) -> bytes | None:
    """The same for whoever only looks: None while nothing of a store is signed yet."""
    return None if store.signed_since() is None else adapter_key(data)


def _sign(path: Path, key: bytes) -> bool:
    """Sign an adapter that has no signature; a damaged one stays as it is."""
    from rlhf_core.model.adapters import sign_adapter, verify_adapter

    try:
        if verify_adapter(path).signature is None:
            sign_adapter(path, key)
            return True
    except AdapterError as exc:
        log.warning("not signed: %s", exc)
    return False
