"""Side by side: replies to one message (candidates) that a rater sees together and judges blind."""

import string
from collections.abc import Sequence
from dataclasses import asdict

from sqlite_utils import Database

from feedback_store.errors import InvalidFeedbackError
from feedback_store.feedback.messages import require_own, store_message
from feedback_store.records import ARMS, Arm, CandidateReply, Message
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import new_id, utc_now
from feedback_store.sqlite.rows import (
    Row,
    first,
    insert,
    one_of,
    require,
    rows,
    to_record,
)

_LATEST = """SELECT candidates.id FROM candidates
    JOIN messages ON messages.id = prompt_message_id
    JOIN conversations ON conversations.id = messages.conversation_id
    WHERE candidates.rater_id = :rater AND page = :page AND deleted_at IS NULL
    ORDER BY candidates.created_at DESC, candidates.id DESC LIMIT 1"""
_JUDGED = """SELECT 1 FROM choices WHERE candidates_id = :shown AND rater_id = :rater
    UNION ALL SELECT 1 FROM rankings WHERE candidates_id = :shown AND rater_id = :rater"""


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
        arm: Arm = "random",
        propensity: float = 1.0,
    ) -> tuple[str, list[Message]]:
        """Add replies to be judged blind, labelled a, b, ... in the order given, all or none.

        Args:
            prompt_message_id: The message that they answer.
            replies: 2 to 26 replies, from left to right as they are shown.
            rater_id: The rater who sees them.
            gold: The label of the best reply, if it is known. This makes them a gold question of
                the rater, which never becomes a comparison.
            trial_id: The trial whose two adapters wrote them.
            arm: How they were chosen among those that were sampled: by lot, or because it was most
                uncertain which is preferred.
            propensity: The probability with which these were shown, of all that were sampled.

        Returns:
            The id of the candidates, and their messages in the order given.
        """
        if not 2 <= len(replies) <= len(string.ascii_lowercase):
            raise InvalidFeedbackError(
                f"{len(replies)} replies cannot be compared; give between 2 and 26."
            )
        one_of(arm, ARMS, "the arm of candidates")
        if not 0 < propensity <= 1:
            raise InvalidFeedbackError(
                f"a propensity of {propensity}; give a probability above 0, at most 1."
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
                "arm": arm,
                "propensity": propensity,
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

    def latest_candidates(self, rater_id: str, page: str) -> str | None:
        """The candidates that were shown to a rater last, of the conversations of one page."""
        with self._file.read() as db:
            found = first(db, _LATEST, {"rater": rater_id, "page": page})
        return None if found is None else str(found["id"])

    def judged(self, candidates_id: str, rater_id: str) -> bool:
        """Whether the rater has chosen among these candidates or ranked them.

        Also if that was taken back: the rater knows since then who wrote which of them.
        """
        with self._file.read() as db:
            return first(db, _JUDGED, {"shown": candidates_id, "rater": rater_id}) is not None
