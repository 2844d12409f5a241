"""Gold questions: comparisons whose better reply is known, given to a rater now and then.

A gold question has its own prompt, so it stands in its own conversation. Lists, counts, search and
exports of prompts leave that out (`conversations.GOLD_CONVERSATIONS`). Invariants: a rater has at
most one open gold question, the same until it is answered; nobody gets the same one twice, unless
the retention sweep has deleted it; the side of the better reply is drawn by lot; an answer is
counted by `raters/behaviour.py` and never becomes a comparison; a reply takes no other feedback.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from feedback_store.feedback.conversations import Conversations
from feedback_store.feedback.side_by_side import SideBySide
from feedback_store.records import CandidateReply, PromptMessage
from feedback_store.splits import prompt_hash
from feedback_store.sqlite.rows import Row, rows, scalar

_ANSWERED = """(EXISTS (SELECT 1 FROM choices
        WHERE candidates_id = candidates.id AND choices.rater_id = candidates.rater_id)
    OR EXISTS (SELECT 1 FROM rankings
        WHERE candidates_id = candidates.id AND rankings.rater_id = candidates.rater_id))"""
_SHOWN = f"""SELECT candidates.id, path_hash, {_ANSWERED} AS answered FROM candidates
    JOIN messages ON messages.id = prompt_message_id
    WHERE candidates.rater_id = ? AND gold IS NOT NULL"""
_JUDGED = f"""SELECT count(*) FROM candidates
    WHERE rater_id = ? AND gold IS NULL AND {_ANSWERED}"""


@dataclass(frozen=True, slots=True)
class GoldItem:
    """A prompt with two replies, one of which everybody who reads them prefers."""

    prompt: tuple[PromptMessage, ...]
    better: str
    worse: str


class GoldQuestions(Conversations, SideBySide):
    """The gold questions of a store."""

    def gold_question(
        self, rater_id: str, items: Sequence[GoldItem], *, every: int | None
    ) -> str | None:
        """The id of a rater's open gold question, or of a new one if one is due, or None.

        Args:
            rater_id: The rater who answers it.
            items: A new one is drawn from these by lot.
            every: One is due each time the rater has judged so many other candidates; None: now.
        """
        with self._file.read() as db:
            found, unseen = _state(db, rater_id, items, every)
        if found or not unseen:
            return found
        with self._file.write() as db:
            found, unseen = _state(db, rater_id, items, every)  # another tab may have begun one
            return found or (self._begin(rater_id, secrets.choice(unseen)) if unseen else None)

    def _begin(self, rater_id: str, item: GoldItem) -> str:
        asked = self.add_dialogue(rater_id, item.prompt)[-1]
        gold = secrets.choice("ab")
        texts = (item.better, item.worse) if gold == "a" else (item.worse, item.better)
        replies = [CandidateReply(text) for text in texts]
        return self.add_candidates(asked.id, replies, rater_id=rater_id, gold=gold)[0]


def _state(
    db: Database, rater_id: str, items: Sequence[GoldItem], every: int | None
) -> tuple[str | None, list[GoldItem]]:
    """The id of the open gold question, and the items for a new one if one is due."""
    shown: list[Row] = rows(db, _SHOWN, [rater_id])
    open_one = next((row["id"] for row in shown if not row["answered"]), None)
    due = every is None or scalar(db, _JUDGED, [rater_id]) // every > len(shown)
    if open_one or not (items and due):
        return open_one, []
    seen = {row["path_hash"] for row in shown}
    return None, [item for item in items if prompt_hash(item.prompt) not in seen]
