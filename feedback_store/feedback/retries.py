"""Retries: a response made anew at a rater's wish, and whether it is better than the one before.

A retry by itself is weak evidence (`comparisons/pairing.py`). What the rater says of the two
responses supersedes it, as a later event about the same pair.
"""

from sqlite_utils import Database

from feedback_store.errors import UnknownRecordError, say
from feedback_store.feedback.events import record_event
from feedback_store.feedback.messages import require_own
from feedback_store.records import THAN_BEFORE, Retry
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import Row, first, one_of, to_record

_STANDING = """SELECT * FROM retries WHERE message_id = ? AND rater_id = ?
    AND superseded_at IS NULL"""


class Retries:
    """The retries of a store."""

    _file: SQLiteFile

    def compare_with_before(
        self,
        message_id: str,
        rater_id: str,
        than_before: str,
        *,
        idempotency_key: str | None = None,
    ) -> Retry:
        """Record how a retry is beside the response that it replaced: one of `THAN_BEFORE`.

        Raises:
            UnknownRecordError: The message is not the rater's, or it is no retry.
        """
        one_of(than_before, THAN_BEFORE, say("a retry beside the reply before it"))

        def work(db: Database) -> Row:
            """A new row with the answer, which replaces the one without."""
            require_own(db, "messages", message_id, rater_id)
            retry = first(db, _STANDING, [message_id, rater_id])
            if retry is None:
                raise UnknownRecordError(
                    say(
                        "message {id} replaced no other; only a retry is compared with the "
                        "reply before it.",
                        id=repr(message_id),
                    )
                )
            about = {name: retry[name] for name in ("message_id", "retry_of", "rater_id")}
            return record_event(db, "retries", about, {"than_before": than_before}, idempotency_key)

        return to_record(Retry, self._file.run(work))
