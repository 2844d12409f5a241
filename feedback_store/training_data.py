"""What may be learnt from: comparisons and unpaired judgements with their texts, and counts.

`comparisons/refresh.py` keeps the tables; here they are read. Some rows are kept but never handed
out: what a person said without consent, what a rater said who is in quarantine or has reliability
0, and what is about a conversation whose owner has not agreed. A comparison that a cycle has used
stays, marked as withdrawn, when its events no longer stand.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from sqlite_utils import Database

from feedback_store.comparisons import refresh
from feedback_store.comparisons.opinions import opinion_pool, seen_numbers, unvoted_prompts
from feedback_store.feedback.conversations import GOLD_CONVERSATIONS
from feedback_store.feedback.events import HEARD, owners_agree
from feedback_store.feedback.messages import path_to, prompt_of
from feedback_store.raters.left_out import LeftOut, left_out
from feedback_store.raters.standing import rater_weights
from feedback_store.records import (
    SPLITS,
    OpinionRow,
    Prompt,
    StoredComparison,
    StoredUnpaired,
)
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.numbers import last_numbers
from feedback_store.sqlite.rows import Row, one_of, rows, scalar, stream, to_record

# A vote in `held_out_raters` teaches nothing, so it is never new evidence.
_NEW = f"""SELECT count(*) FROM (
    SELECT 1 FROM comparisons INDEXED BY comparisons_by_number
    CROSS JOIN raters ON raters.id = comparisons.rater_id
    WHERE split IN ('train', 'held_out') AND number > ? AND withdrawn_at IS NULL AND {HEARD}
    LIMIT ?)"""
_CANCELLED = """SELECT coalesce(max(seen ->> '$.comparisons'), 0) FROM cycles
    WHERE state = 'cancelled' AND id = (SELECT max(id) FROM cycles)"""
_USABLE = f"""FROM comparisons JOIN raters ON raters.id = comparisons.rater_id
    WHERE withdrawn_at IS NULL AND {HEARD}"""
_OWNERS_AGREE = owners_agree("comparisons.a, comparisons.b, comparisons.prompt_id")
_TEXT = """coalesce((SELECT content FROM messages WHERE id = comparisons.{0}),
    (SELECT content FROM demonstrations WHERE id = comparisons.{0})) AS response_{0}"""
_AMONG = "AND {0}.id IN (SELECT value FROM json_each(:ids))"
_ASKED = f"""SELECT messages.id FROM json_each(:ids) AS wanted
    CROSS JOIN messages ON messages.id = wanted.value
    CROSS JOIN conversations ON conversations.id = messages.conversation_id
    CROSS JOIN raters ON raters.id = conversations.rater_id
    WHERE {HEARD} AND NOT raters.held_out"""
_WRITER = "(SELECT adapter FROM messages WHERE id = comparisons.{0}) AS adapter_{0}"
# Nothing of gold questions is counted: their messages are not the raters', choices on no prompt.
_COUNTS = f"""SELECT
    (SELECT count(*) FROM raters) AS raters,
    (SELECT count(*) FROM messages) - (SELECT count(*) FROM messages
        WHERE conversation_id IN ({GOLD_CONVERSATIONS})) AS messages,
    (SELECT count(*) FROM thumbs WHERE superseded_at IS NULL AND value <> 0) AS thumbs,
    (SELECT count(*) FROM choices
        WHERE superseded_at IS NULL AND prompt_hash IS NOT NULL) AS choices,
    (SELECT count(*) FROM demonstrations WHERE superseded_at IS NULL) AS demonstrations,
    (SELECT count(*) {_USABLE}) AS comparisons"""
_PROMPTS_KEPT = 1_000  # paths in memory while streaming


class TrainingData:
    """Comparisons and counts of a store."""

    _file: SQLiteFile

    def refresh_comparisons(self) -> int:
        """Bring the comparisons in step with the events; return how many are new.

        Only what has changed since the last time is derived again.
        """
        return refresh.refresh(self._file)

    def rebuild_comparisons(self) -> int:
        """Derive everything afresh; the result is the same, unless the program has changed."""
        with self._file.write() as db:
            refresh.mark_all_stale(db)
        return self.refresh_comparisons()

    def comparisons(
        self, *, split: str | None = None, weights: Mapping[str, float] | None = None
    ) -> list[StoredComparison]:
        """Comparisons that may be learnt from, sorted by id, as of the last refresh.

        Args:
            split: Only one of `SPLITS`.
            weights: Only those with these ids, and with these weights.
        """
        with self._file.read() as db:
            return list(read_comparisons(db, split=split, weights=weights))

    def unpaired(
        self, *, split: str | None = None, weights: Mapping[str, float] | None = None
    ) -> list[StoredUnpaired]:
        """Judgements of one response by itself, with the arguments of `comparisons`."""
        with self._file.read() as db:
            return list(read_unpaired(db, split=split, weights=weights))

    def new_comparisons(self, *, at_most: int = -1, after_cancel: bool = False) -> int:
        """How many comparisons came after what the last cycle saw that reached a verdict.

        Those of held-out raters on training questions are not counted: they teach nothing. With
        `at_most` the count ends there. With `after_cancel`, if the last cycle was cancelled, only
        what came after that counts. It costs as much as there is new.
        """
        with self._file.read() as db:
            cancelled = scalar(db, _CANCELLED) if after_cancel else 0
            return _count_new(db, at_most=at_most, after=cancelled)

    def left_out(self, *, since: str | None = None) -> LeftOut:
        """What people said that counts for nothing or for less, and why; see `left_out`."""
        with self._file.long_read() as db:
            return left_out(db, since=since)

    def last_numbers(self) -> dict[str, int]:
        """By table, the number of the last opinion: what a cycle has seen that begins now."""
        with self._file.read() as db:
            return last_numbers(db)

    def seen_numbers(self) -> dict[str, int]:
        """By table, the number up to which cycles have seen opinions; those above are new.

        Those are cycles that reached a verdict, and for demonstrations cycles whose SFT made a
        policy that was promoted.
        """
        with self._file.read() as db:
            return seen_numbers(db)

    def opinion_pool(
        self, table: str, split: str, *, numbers: range, most: int, seed: str
    ) -> tuple[OpinionRow, ...]:
        """Opinions to draw from; see `opinions.opinion_pool` for the arguments."""
        with self._file.read() as db:
            return opinion_pool(db, table, split, numbers=numbers, most=most, seed=seed)

    def rater_weights(self, said: Mapping[str, float]) -> dict[str, float]:
        """The factor on each rater's weight, if they said just so much; 1 for the others."""
        with self._file.read() as db:
            return rater_weights(db, of=said)

    def unvoted_prompts(self, most: int) -> list[str]:
        """The newest training prompts that nobody voted on: ids of messages, newest first."""
        with self._file.read() as db:
            return unvoted_prompts(db, most)

    def prompts_of(self, message_ids: Iterable[str]) -> dict[str, Prompt]:
        """The prompts that end with these messages, as far as they may be learnt from."""
        with self._file.read() as db:
            prompt, bound = _prompts(db), {"ids": json.dumps(list(message_ids))}
            return {row["id"]: prompt(row["id"]) for row in rows(db, _ASKED, bound)}

    def counts(self) -> dict[str, int]:
        """How much there is: feedback that stands, and comparisons that may be used.

        Gold questions and the answers to them are left out. Comparisons that `comparisons`
        withholds for the owner of a conversation alone are counted: to look up every owner takes
        ten times as long, and pages ask every two seconds.
        """
        with self._file.read() as db:
            return counts_of(db)


def counts_of(db: Database) -> dict[str, int]:
    """See `TrainingData.counts`."""
    return rows(db, _COUNTS)[0] | {"unused_comparisons": _count_new(db)}


def _count_new(db: Database, *, at_most: int = -1, after: int = 0) -> int:
    seen = max(after, seen_numbers(db)["comparisons"])
    return int(scalar(db, _NEW, [seen, at_most]))


def read_comparisons(
    db: Database, *, split: str | None = None, weights: Mapping[str, float] | None = None
) -> Iterator[StoredComparison]:
    """Comparisons that may be learnt from, one at a time.

    Their weights are the effective ones, or with `weights` those of the ids named there.
    """
    one_of(split, (None, *SPLITS), "the split")
    weigh, prompts = _weigh(db, weights), _prompts(db)
    sql = f"""SELECT comparisons.*, {_TEXT.format("a")}, {_TEXT.format("b")},
            {_WRITER.format("a")}, {_WRITER.format("b")}
        {_USABLE} AND {_OWNERS_AGREE} AND (:split IS NULL OR split = :split)
        {"" if weights is None else _AMONG.format("comparisons")} ORDER BY comparisons.id"""
    for row in stream(db, sql, {"split": split, "ids": json.dumps([*(weights or ())])}):
        if weight := weigh(row):
            yield to_record(
                StoredComparison, row | {"prompt": prompts(row["prompt_id"]), "weight": weight}
            )


def read_unpaired(
    db: Database, *, split: str | None = None, weights: Mapping[str, float] | None = None
) -> Iterator[StoredUnpaired]:
    """Judgements of one response, one at a time; see `read_comparisons`."""
    one_of(split, (None, *SPLITS), "the split")
    weigh, prompts = _weigh(db, weights), _prompts(db)
    sql = f"""SELECT unpaired.*, messages.content AS response FROM unpaired
        JOIN raters ON raters.id = unpaired.rater_id
        JOIN messages ON messages.id = unpaired.message_id
        WHERE {HEARD} AND {owners_agree("unpaired.message_id, unpaired.prompt_id")}
        AND (:split IS NULL OR split = :split)
        {"" if weights is None else _AMONG.format("unpaired")} ORDER BY unpaired.id"""
    for row in stream(db, sql, {"split": split, "ids": json.dumps([*(weights or ())])}):
        if weight := weigh(row):
            yield to_record(
                StoredUnpaired, row | {"prompt": prompts(row["prompt_id"]), "weight": weight}
            )


def _weigh(db: Database, weights: Mapping[str, float] | None) -> Callable[[Row], float]:
    if weights is not None:
        return lambda row: weights[row["id"]]
    factors = rater_weights(db)
    return lambda row: row["weight"] * factors.get(row["rater_id"], 1.0)


def _prompts(db: Database) -> Callable[[str], Prompt]:
    @lru_cache(maxsize=_PROMPTS_KEPT)
    def prompt(message_id: str) -> Prompt:
        return prompt_of(path_to(db, message_id))

    return prompt
