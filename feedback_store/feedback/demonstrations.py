"""Demonstrations: answers that raters write, from scratch or in place of a response."""

import json
from collections.abc import Iterable, Sequence

from sqlite_utils import Database

from feedback_store.errors import InvalidFeedbackError, say
from feedback_store.feedback.events import (
    HEARD,
    LEFT_OUT_VOTES,
    owners_agree,
    record_event,
    require_response,
    standing,
)
from feedback_store.feedback.messages import path_to, prompt_of
from feedback_store.records import SPLITS, PromptMessage, StoredDemonstration
from feedback_store.splits import split_of
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import Row, one_of, rows, to_record


class Demonstrations:
    """The demonstrations of a store."""

    _file: SQLiteFile

    def add_demonstration(
        self,
        rater_id: str,
        content: str,
        *,
        message_id: str | None = None,
        prompt: Sequence[PromptMessage] | None = None,
        idempotency_key: str | None = None,
    ) -> StoredDemonstration:
        """Record an answer that a rater wrote, in place of `message_id` or to `prompt`."""
        if not content.strip():
            raise InvalidFeedbackError(say("a demonstration cannot be empty; write a reply."))
        if (message_id is None) == (prompt is None):
            raise InvalidFeedbackError(
                say(
                    "a demonstration belongs to a message or to a prompt; give exactly one of them."
                )
            )
        about = {"rater_id": rater_id, "message_id": message_id}

        def work(db: Database) -> Row:
            said = prompt or ()
            if message_id is not None:
                require_response(db, message_id)
                said = prompt_of(path_to(db, message_id)[:-1])
            text = {"prompt": checked_prompt(said), "content": content}
            return record_event(db, "demonstrations", about, text, idempotency_key)

        return to_record(StoredDemonstration, self._file.run(work))

    def demonstrations(
        self, *, split: str | None = None, ids: Iterable[str] | None = None
    ) -> list[StoredDemonstration]:
        """All demonstrations that stand and may be learnt from, oldest first.

        Args:
            split: Only one of `SPLITS`.
            ids: Only these.
        """
        one_of(split, (None, *SPLITS), "the split")
        may = f"AND {HEARD} AND {owners_agree('demonstrations.message_id')}"
        may += f" AND demonstrations.id NOT IN {LEFT_OUT_VOTES}"
        bound = {"ids": json.dumps([*(ids or ())])}
        if ids is not None:
            may += " AND demonstrations.id IN (SELECT value FROM json_each(:ids))"
        with self._file.read() as db:
            found = [
                to_record(StoredDemonstration, row)
                for row in standing(db, "demonstrations", may, bound)
            ]
            raters = rows(db, "SELECT id FROM raters WHERE held_out")
        held_out = {row["id"] for row in raters}
        return [
            item
            for item in found
            if split in (None, split_of(item.prompt, held_out_rater=item.rater_id in held_out))
        ]


def checked_prompt(prompt: Sequence[PromptMessage]) -> tuple[PromptMessage, ...]:
    """The roles and texts of a prompt, without anything else in it.

    Raises:
        InvalidFeedbackError: It has no message.
    """
    if not prompt:
        raise InvalidFeedbackError("a demonstration needs a prompt; give at least one message.")
    return tuple(PromptMessage(role=item["role"], content=item["content"]) for item in prompt)
