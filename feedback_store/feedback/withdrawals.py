"""A rater takes back what they said, of any kind, and may undo that.

An event that is taken back is superseded by nothing: it stays as history, nothing is derived from
it any more, and what a cycle has learnt from it stays learnt. It stands again if it is restored,
unless the rater has said something else about the same thing meanwhile. Answers to gold questions
stay: they tell how well a rater judges.
"""

from collections.abc import Callable

from sqlite_utils import Database

from feedback_store.errors import ConflictError, InvalidFeedbackError, UnknownRecordError, say
from feedback_store.feedback.events import EVENT_TABLES, current, mark_stale
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import Row, first

_ABOUT = {
    "thumb": ("message_id",),
    "choice": ("candidates_id",),
    "ranking": ("candidates_id",),
    "demonstration": ("message_id",),
    "retry": ("message_id", "retry_of"),
}


class Withdrawals:
    """Taking back what was said in a store."""

    _file: SQLiteFile

    def withdraw_feedback(self, rater_id: str, kind: str, event_id: str) -> None:
        """Take back an event; one that stands no more is left alone.

        Args:
            rater_id: Whose event it is.
            kind: "thumb", "choice", "ranking", "demonstration" or "retry".
            event_id: The event.

        Raises:
            UnknownRecordError: The rater has said no such thing.
            InvalidFeedbackError: It answers a gold question.
        """
        self._set(rater_id, kind, event_id, lambda db, row: row["superseded_at"] or utc_now())

    def restore_feedback(self, rater_id: str, kind: str, event_id: str) -> None:
        """Let an event stand again that was taken back.

        Raises:
            UnknownRecordError: The rater has said no such thing.
            InvalidFeedbackError: It answers a gold question.
            ConflictError: The rater has said something else about the same thing meanwhile, or
                deleted its conversation.
        """

        def stand(db: Database, row: Row) -> None:
            """Return that it stands without an end, or refuse."""
            about = {name: row[name] for name in (*_ABOUT[kind], "rater_id")}
            other = current(db, EVENT_TABLES[kind], about)
            if (other is not None and other["id"] != row["id"]) or first(db, _DELETED, row):
                raise ConflictError(
                    say(
                        "this cannot be undone: you said something else since, or deleted the "
                        "conversation."
                    )
                )

        self._set(rater_id, kind, event_id, stand)

    def _set(
        self, rater_id: str, kind: str, event_id: str, until: Callable[[Database, Row], str | None]
    ) -> None:
        """Say until when an event stands."""
        table = EVENT_TABLES.get(kind)
        if table is None:
            raise InvalidFeedbackError(say("there is no kind of event {name}.", name=repr(kind)))

        def work(db: Database) -> None:
            """Find the event, and write until when it stands."""
            sql = f"SELECT * FROM {table} WHERE id = ? AND rater_id = ?"
            row = first(db, sql, [event_id, rater_id])
            if row is None:
                raise UnknownRecordError(
                    say(
                        "there is no {id} among {things}; check the id.",
                        id=repr(event_id),
                        things=say("your votes"),
                    )
                )
            if "candidates_id" in row and row["prompt_hash"] is None:
                raise InvalidFeedbackError(say("an answer to a gold question stays as it is."))
            row = {"message_id": None, "candidates_id": None} | row
            sql = f"UPDATE {table} SET superseded_at = ? WHERE id = ?"
            db.execute(sql, [until(db, row), event_id])
            mark_stale(db, table, event_id)

        self._file.run(work)


_DELETED = """SELECT 1 FROM messages JOIN conversations ON conversations.id = conversation_id
    WHERE deleted_at IS NOT NULL AND (messages.id = :message_id OR messages.id =
        (SELECT prompt_message_id FROM candidates WHERE id = :candidates_id))"""
