"""Who the raters are: their kind, their consent to the terms, and who of them is held out."""

from sqlite_utils import Database

from feedback_store.errors import ConflictError, say
from feedback_store.privacy.forgetting import is_being_forgotten
from feedback_store.records import RATER_KINDS, Rater
from feedback_store.splits import is_held_out_rater
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.numbers import take_numbers_again
from feedback_store.sqlite.rows import Row, audit, first, one_of, require, scalar, to_record

# The first raters are never held out: a service for few people must learn from all of them.
_NEVER_HELD_OUT = 20


class Accounts:
    """The raters of a store."""

    _file: SQLiteFile

    def add_rater(
        self,
        rater_id: str | None = None,
        *,
        kind: str = "person",
        consent: str | None = None,
        origin: str | None = None,
    ) -> Rater:
        """Add a rater, or return the one who has this id; record the consent if one is given.

        `origin` is a keyed hash of the address that makes the rater; later it changes nothing.

        Raises:
            ConflictError: Everything of the rater is about to be erased.
        """
        one_of(kind, RATER_KINDS, "the kind of a rater")
        with self._file.read() as db:
            row = first(db, "SELECT * FROM raters WHERE id = ?", [rater_id])
            if rater_id is not None and is_being_forgotten(db, rater_id):
                raise ConflictError(
                    say("all that you said is being erased; come back a little later.")
                )
        if row is None:
            row = self._file.run(
                lambda db: insert_rater(
                    db, rater_id or new_id(), kind=kind, consent=consent, origin=origin
                )
            )
        if consent is not None and row["consent"] != consent:
            return self.set_consent(row["id"], consent)
        return to_record(Rater, row)

    def set_consent(self, rater_id: str, version: str | None) -> Rater:
        """Record which version of the terms a rater agrees to; None withdraws the consent."""
        with self._file.write() as db:
            before = require(db, "raters", rater_id)["consent"]
            db.execute("UPDATE raters SET consent = ? WHERE id = ?", [version, rater_id])
            if before is None and version is not None:
                take_numbers_again(db, rater_id)
            audit(db, "consent", rater_id=rater_id, before=before, after=version)
            return to_record(Rater, require(db, "raters", rater_id))

    def rater(self, rater_id: str) -> Rater:
        """The rater with this id."""
        with self._file.read() as db:
            return to_record(Rater, require(db, "raters", rater_id))


def would_hold_out(db: Database, rater_id: str) -> bool:
    """Whether a rater who is added now is held out; this never changes afterwards."""
    sql = "SELECT count(*) FROM (SELECT 1 FROM raters LIMIT ?)"
    known = scalar(db, sql, [_NEVER_HELD_OUT])
    return bool(known == _NEVER_HELD_OUT and is_held_out_rater(rater_id))


def insert_rater(
    db: Database,
    rater_id: str,
    *,
    kind: str = "person",
    consent: str | None = None,
    origin: str | None = None,
) -> Row:
    """The row of a rater, which is new if there was none."""
    held_out = kind != "judge" and would_hold_out(db, rater_id)
    db.execute(
        "INSERT INTO raters (id, kind, consent, created_at, held_out, origin)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",  # another process may have added the rater meanwhile
        [rater_id, kind, consent, utc_now(), held_out, origin],
    )
    return require(db, "raters", rater_id)
