"""Keys of the API: who may call, with which role, until the operator revokes it.

A key is 32 random bytes as text, and the store keeps only their SHA-256, so whoever reads the store
cannot call. A slow hash would add nothing: it makes guessing slow, and nobody guesses 256 random
bits. Nothing is cached, so a key that was revoked is unknown from the next request on. The name of
a revoked key may be given again, for the same person: who has it is the same rater.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from feedback_store.errors import ConflictError, InvalidFeedbackError, UnknownRecordError
from feedback_store.raters.screening import pass_on
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.rows import audit, first, insert, one_of, rows, to_record

KEY_ROLES = ("visitor", "labeler", "operator")
# `fc-` and 43 characters, which are 32 bytes in base64. A key that lost its end, or got something
# more, is still meant as one, and must not name a new rater.
_TEXT = re.compile(r"fc-[\w-]{24,}", re.ASCII)
_NAME = re.compile(r"[\w.@-]{1,64}")
_IN_USE = "SELECT * FROM keys WHERE revoked_at IS NULL AND "


@dataclass(frozen=True, slots=True)
class AccessKey:
    """What the store knows of a key.

    `role` says what its owner may do. The calls of a `gateway` say for which person each is made.
    `used_on` is the last day on which it was used, in UTC.
    """

    id: str
    name: str
    role: str
    gateway: bool
    created_at: str
    used_on: str | None
    revoked_at: str | None

    @property
    def signature(self) -> str:
        """How the audit log names its owner."""
        return f"key {self.name}"


def is_key(text: str) -> bool:
    """Whether a text has the form of a key; no other bearer token may have it."""
    return _TEXT.fullmatch(text) is not None


class Keys:
    """The keys of a store, and what was done with them."""

    _file: SQLiteFile

    def make_key(
        self,
        name: str,
        *,
        role: str = "visitor",
        gateway: bool = False,
        passed: tuple[str, str] | None = None,
        by: str,
    ) -> tuple[AccessKey, str]:
        """Make a key, and return it with its text, which nobody can read again.

        Args:
            name: Of the person or program that gets it.
            role: One of `KEY_ROLES`.
            gateway: Whether its calls say for which person each is made.
            passed: The rater as whom its owner passed the screening, and the rater whom the key
                names: what that one says counts as screened (`screening.pass_on`).
            by: Who makes it.

        Raises:
            InvalidFeedbackError: The name has other characters than it may, there is no such
                role, or a gateway would be an operator.
            ConflictError: A key of that name is in use, or the rater has not passed, or has opened
                another key.
        """
        one_of(role, KEY_ROLES, "the role of a key")
        if gateway and role == "operator":
            raise InvalidFeedbackError(
                "a gateway speaks for many persons, who are no operators; make it a key with the "
                "role visitor or labeler"
            )
        if not _NAME.fullmatch(name):
            raise InvalidFeedbackError(
                f"a key cannot be named {name!r}; use up to 64 letters, digits and . _ - @"
            )
        text = f"fc-{secrets.token_urlsafe(32)}"
        row: dict[str, Any] = {"id": new_id(), "name": name, "role": role, "gateway": int(gateway)}
        row |= {"hash": _hash(text), "created_at": utc_now()}
        with self._file.write() as db:
            if first(db, f"{_IN_USE} name = ?", [name]):
                raise ConflictError(f"a key {name!r} is in use; revoke it, or choose another name")
            insert(db, "keys", row)
            audit(db, "key_made", name=name, role=role, gateway=gateway, by=by)
            if passed is not None:
                pass_on(db, *passed, key=name, by=by)
        return to_record(AccessKey, {**row, "used_on": None, "revoked_at": None}), text

    def keys(self) -> list[AccessKey]:
        """All keys, the revoked ones too, oldest first."""
        with self._file.read() as db:
            return [to_record(AccessKey, row) for row in rows(db, "SELECT * FROM keys ORDER BY id")]

    def key_of(self, text: str) -> AccessKey | None:
        """The key with this text; None if there is none, or it was revoked."""
        return self._in_use("hash", _hash(text))

    def key_in_use(self, key_id: str) -> AccessKey | None:
        """The key with this id, unless it was revoked."""
        return self._in_use("id", key_id)

    def revoke_key(self, name: str, *, by: str) -> AccessKey:
        """Let a key open nothing from now on.

        Raises:
            UnknownRecordError: No key of that name is in use.
        """
        with self._file.write() as db:
            row = first(db, f"{_IN_USE} name = ?", [name])
            if row is None:
                raise UnknownRecordError(
                    f"no key {name!r} is in use; `feedback-chat keys list` shows all"
                )
            row["revoked_at"] = utc_now()
            _set(db, row["id"], "revoked_at", row["revoked_at"])
            audit(db, "key_revoked", name=name, by=by)
        return to_record(AccessKey, row)

    def note_use(self, key: AccessKey) -> None:
        """Note the day on which a key is used: one short write a day."""
        today = utc_now()[:10]
        if key.used_on != today:
            self._file.run(lambda db: _set(db, key.id, "used_on", today))

    def note_act(self, act: str, *, by: str, **detail: Any) -> None:
        """Note in the audit log what an operator did that no other row of the store tells."""
        with self._file.write() as db:
            audit(db, act, by=by, **detail)

    def _in_use(self, column: str, value: str) -> AccessKey | None:
        with self._file.read() as db:
            row = first(db, f"{_IN_USE} {column} = ?", [value])
        return None if row is None else to_record(AccessKey, row)


def _set(db: Database, key_id: str, column: str, value: str) -> None:
    db.execute(f"UPDATE keys SET {column} = ? WHERE id = ?", [value, key_id])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
