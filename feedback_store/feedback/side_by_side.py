"""Side by side: replies to one message (candidates) that a rater sees together and judges blind."""

import string
from collections.abc import Sequence
from dataclasses import asdict

from sqlite_utils import Database

from feedback_store.errors import InvalidFeedbackError
from feedback_store.feedback.messages import require_own, store_message
from feedback_store.records import CandidateReply, Message
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.rows import Row, insert, one_of, require, rows, to_record


class SideBySide:
    """The candidates of a store."""

    _file: SQLiteFile

    def add_candidates(
        self,
        prompt_message_id: str,
        replies: Sequence[CandidateReply],
        *,
        rater_id: str,
        gold: str | None = None,
        trial_id: int | None = None,
    ) -> tuple[str, list[Message]]:
        """Add replies to be judged blind, labelled a, b, ... in the order given, all or none.

        Args:
            prompt_message_id: The message that they answer.
            replies: 2 to 26 replies, from left to right as they are shown.
            rater_id: The rater who sees them.
            gold: The label of the best reply, if it is known. This makes them a gold question of
                the rater, which never becomes a comparison.
            trial_id: The trial whose two adapters wrote them.

        Returns:
            The id of the candidates, and their messages in the order given.
        """
        if not 2 <= len(replies) <= len(string.ascii_lowercase):
            raise InvalidFeedbackError(
                f"{len(replies)} replies cannot be compared; give between 2 and 26."
            )
        one_of(gold, (None, *string.ascii_lowercase[: len(replies)]), "the gold label")
        candidates_id = new_id()

        def work(db: Database) -> list[Row]:
            """All rows in one transaction: candidates that are shown in part are no evidence."""
            prompt = require(db, "messages", prompt_message_id)
            require(db, "raters", rater_id)
            row = {
                "id": candidates_id,
                "prompt_message_id": prompt_message_id,
                "rater_id": rater_id,
                "created_at": utc_now(),
                "gold": gold,
                "trial_id": trial_id,
            }
            insert(db, "candidates", row)
            common = {
                "conversation_id": prompt["conversation_id"],
                "parent_id": prompt_message_id,
                "role": "assistant",
                "candidates_id": candidates_id,
            }
            return [
                store_message(db, common | {"id": new_id(), "label": label} | asdict(reply))
                for label, reply in zip(string.ascii_lowercase, replies, strict=False)
            ]

        return candidates_id, [to_record(Message, row) for row in self._file.run(work)]

    def candidates(self, candidates_id: str, *, rater_id: str | None = None) -> list[Message]:
        """The replies shown together, by label; with `rater_id`, only if shown to that rater."""
        sql = "SELECT * FROM messages WHERE candidates_id = ? ORDER BY label"
        with self._file.read() as db:
            require_own(db, "candidates", candidates_id, rater_id)
            return [to_record(Message, row) for row in rows(db, sql, [candidates_id])]
