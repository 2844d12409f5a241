"""What may be learnt from: comparisons and unpaired judgements with their texts, and counts.

`comparisons/refresh.py` keeps the tables; here they are read. Some rows are kept but never handed
out: what a person said without consent, what a rater said who is in quarantine or has reliability
0, and what is about a conversation whose owner has not agreed. A comparison that a cycle has used
stays, marked as withdrawn, when its events no longer stand, or the operator leaves one out.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache

from sqlite_utils import Database

from feedback_store.comparisons import refresh
from feedback_store.comparisons.amount import EvidenceAmount, Said, amount_of
from feedback_store.comparisons.opinions import opinion_pool, seen_numbers, unvoted_prompts
from feedback_store.feedback.conversations import GOLD_CONVERSATIONS
from feedback_store.feedback.events import (
    HEARD,
    LEFT_OUT_CONVERSATIONS,
    LEFT_OUT_VOTES,
    owners_agree,
)
from feedback_store.feedback.messages import path_to, prompt_of
from feedback_store.raters.standing import rater_weights
from feedback_store.raters.uncounted import LeftOut, left_out
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
# By question; at most so many opinions.
_NEW_SAID = f"""SELECT question, total(iif(decided, weight, 0)) AS decided,
        total(iif(decided, 0, weight)) AS undecided FROM (
    SELECT * FROM (
        SELECT prompt_hash AS question, label != 'tie' AS decided, weight * reliability AS weight
        FROM comparisons INDEXED BY comparisons_by_number
        CROSS JOIN raters ON raters.id = comparisons.rater_id
        WHERE split IN ('train', 'held_out') AND number > :comparisons AND withdrawn_at IS NULL
        AND {HEARD} LIMIT :at_most)
    UNION ALL SELECT * FROM (
        SELECT prompt_hash, FALSE, weight * reliability FROM unpaired INDEXED BY unpaired_by_number
        CROSS JOIN raters ON raters.id = unpaired.rater_id
        WHERE split IN ('train', 'held_out') AND number > :unpaired AND {HEARD} LIMIT :at_most))
    GROUP BY question"""
_ENDED = """SELECT coalesce(max(seen ->> '$.comparisons'), 0) AS comparisons,
    coalesce(max(seen ->> '$.unpaired'), 0) AS unpaired FROM cycles
    WHERE state IN ('cancelled', 'refused', 'failed') AND id = (SELECT max(id) FROM cycles)"""
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
    WHERE {HEARD} AND NOT raters.held_out AND deleted_at IS NULL
    AND conversations.id NOT IN {LEFT_OUT_CONVERSATIONS}"""
_WRITER = "(SELECT adapter FROM messages WHERE id = comparisons.{0}) AS adapter_{0}"
# Nothing of gold questions is counted: their messages are not the raters', choices on no prompt.
_COUNTS = f"""WITH omitted AS MATERIALIZED {LEFT_OUT_VOTES} SELECT
    (SELECT count(*) FROM raters) AS raters,
    (SELECT count(*) FROM messages) - (SELECT count(*) FROM messages
        WHERE conversation_id IN ({GOLD_CONVERSATIONS})) AS messages,
    (SELECT count(*) FROM thumbs
        WHERE superseded_at IS NULL AND value <> 0 AND id NOT IN omitted) AS thumbs,
    (SELECT count(*) FROM choices WHERE superseded_at IS NULL AND prompt_hash IS NOT NULL
        AND id NOT IN omitted) AS choices,
    (SELECT count(*) FROM demonstrations
        WHERE superseded_at IS NULL AND id NOT IN omitted) AS demonstrations,
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

    def new_comparisons(self, *, at_most: int = -1) -> int:
        """How many comparisons came after what the last cycle saw that reached a verdict.

        Those of held-out raters on training questions are not counted: they teach nothing. With
        `at_most` the count ends there. It costs as much as there is new.
        """
        with self._file.read() as db:
            return _count_new(db, at_most=at_most)

    def new_evidence(self, *, at_most: int) -> EvidenceAmount:
        """How much evidence has come since the last cycle that has ended, however it ended.

        What a cycle without a verdict looked at is still to be learnt from, but starts no cycle by
        itself. Raters count by their reliability; caps, which depend on everybody, are left out.

        Args:
            at_most: So many comparisons are looked at, and so many thumbs.
        """
        with self._file.read() as db:
            seen = seen_numbers(db)
            for table, number in rows(db, _ENDED)[0].items():
                seen[table] = max(seen[table], number)
            found = rows(db, _NEW_SAID, {**seen, "at_most": at_most})
        return amount_of(Said(**row) for row in found)

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
        self,
        table: str,
        split: str,
        *,
        numbers: range,
        most: int,
        seed: str,
        kinds: Collection[str] | None = None,
    ) -> tuple[OpinionRow, ...]:
        """Opinions to draw from; see `opinions.opinion_pool` for the arguments."""
        with self._file.read() as db:
            return opinion_pool(
                db, table, split, numbers=numbers, most=most, seed=seed, kinds=kinds
            )

    def rater_weights(
        self, said: Mapping[str, float], *, training: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """The factor on each rater's weight, if they said just so much; 1 for the others.

        Args:
            said: The weight of what each rater said.
            training: The part of it that trains; all of it if None.
        """
        with self._file.read() as db:
            return rater_weights(db, of=said, training=training)

    def unvoted_prompts(self, most: int) -> list[str]:
        """The newest training prompts that nobody voted on: ids of messages, newest first."""
        with self._file.read() as db:
            return unvoted_prompts(db, most)

    def prompts_of(self, message_ids: Iterable[str]) -> dict[str, Prompt]:
        """The prompts that end with these messages, as far as they may be learnt from."""
        with self._file.read() as db:
            prompt, bound = _prompts(db), {"ids": json.dumps(list(message_ids))}
            return {row["id"]: prompt(row["id"]) for row in rows(db, _ASKED, bound)}

    def counts(self, *, apart: bool = False) -> dict[str, int]:
        """How much there is: feedback that stands, and comparisons that may be used.

        Gold questions, the answers to them and votes that the operator leaves out are not counted.
        Comparisons that `comparisons` withholds for the owner of a conversation alone are: to look
        up every owner takes ten times as long, and pages ask every two seconds. With `apart`, no
        other reader waits meanwhile.
        """
        with self._file.long_read() if apart else self._file.read() as db:
            return counts_of(db)


def counts_of(db: Database) -> dict[str, int]:
    """See `TrainingData.counts`."""
    return rows(db, _COUNTS)[0] | {"unused_comparisons": _count_new(db)}


def _count_new(db: Database, *, at_most: int = -1) -> int:
    return int(scalar(db, _NEW, [seen_numbers(db)["comparisons"], at_most]))


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
