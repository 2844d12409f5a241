"""Votes by a client's own name of a reply.

Some clients know no id of ours, but send a name with the question (`CLIENT_MESSAGE`). A name is one
rater's. It comes again when a reply goes on: the whole is a new reply to the same question, with
the name of its beginning. The latest reply of a name takes the vote.
"""

from collections.abc import Callable, Sequence

from sqlite_utils import Database

from feedback_store.errors import say
from feedback_store.feedback.events import current, mark_stale, record_event, require_response
from feedback_store.feedback.messages import named_by_client
from feedback_store.records import Message, Thumb
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import Row, encode, first, one_of, to_record

_SENT = "SELECT message_id FROM thumbs WHERE rater_id = ? AND idempotency_key = ?"


class ClientVotes:
    """The votes of a store that name a reply as a client does."""

    _file: SQLiteFile

    def replies_of_client(self, client_message: str, *, rater_id: str) -> list[Message]:
        """The rater's replies that the client calls so, the latest first; see `CLIENT_MESSAGE`."""
        with self._file.read() as db:
            return named_by_client(db, client_message, rater_id)

    def add_thumb_by_client(
        self,
        client_message: str,
        rater_id: str,
        value: int,
        *,
        idempotency_key: str,
        tags: Sequence[str] = (),
        comment: str = "",
        check: Callable[[Message], None] = lambda reply: None,
    ) -> Thumb:
        """Record a thumb, as `add_thumb`, on the latest reply that the rater's client calls so.

        A thumb that stands on a beginning of this reply is superseded with it. One that says what
        stands on the reply itself changes nothing. A request that is sent again, by its key, is
        answered as at first, also if the reply went on meanwhile. ``check`` may refuse a new vote
        on the reply; it is called before anything is written.

        Raises:
            UnknownRecordError: The client called no reply of the rater so.
        """
        one_of(value, (1, -1, 0), say("a thumb"))
        content = {"value": int(value), "tags": tuple(tags), "comment": comment}

        def work(db: Database) -> Row:
            """Find the reply, and record the thumb."""
            latest, *others = named_by_client(db, client_message, rater_id)
            about = {"message_id": latest.id, "rater_id": rater_id}
            sent = first(db, _SENT, [rater_id, idempotency_key])
            if sent is not None:
                again = any(reply.id == sent["message_id"] for reply in others)
                about |= sent if again else {}
                return record_event(db, "thumbs", about, content, idempotency_key)
            check(latest)
            require_response(db, latest.id)
            for reply in others:
                if _goes_on(latest, reply):
                    _give_way(db, about | {"message_id": reply.id})
            standing = current(db, "thumbs", about)
            if standing and all(standing[name] == encode(said) for name, said in content.items()):
                return standing
            return record_event(db, "thumbs", about, content, idempotency_key)

        return to_record(Thumb, self._file.run(work))


def _goes_on(reply: Message, beginning: Message) -> bool:
    """Whether a reply is another one and what came after it, and no namesake."""
    return reply.parent_id == beginning.parent_id and reply.content.startswith(beginning.content)


def _give_way(db: Database, about: dict[str, str]) -> None:
    """Let a thumb stand no more that is given on the whole reply now; it stays as history."""
    row = current(db, "thumbs", about)
    if row is not None and row["value"]:
        sql = "UPDATE thumbs SET superseded_at = ? WHERE id = ?"
        db.conn.execute(sql, [utc_now(), row["id"]])
        mark_stale(db, "thumbs", row["id"])
