"""What may be learnt from: comparisons and unpaired judgements with their texts, and counts.

`comparisons/refresh.py` keeps the tables; here they are read. Some rows are kept but never handed
out: what a person said without consent, what a rater said who is in quarantine or has reliability
0, and what is about a conversation whose owner has not agreed. A comparison that a cycle has used
stays, marked as withdrawn, when its events no longer stand.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

from sqlite_utils import Database

from feedback_store.comparisons import refresh
from feedback_store.feedback.conversations import GOLD_CONVERSATIONS
from feedback_store.feedback.events import HEARD, owners_agree
from feedback_store.feedback.messages import path_to, prompt_of
from feedback_store.raters.standing import rater_weights
from feedback_store.records import SPLITS, Prompt, StoredComparison, StoredUnpaired
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import one_of, rows, stream, to_record

# What a cycle could still learn from. A vote in `held_out_raters` teaches nothing, so it is never
# new evidence; what a failed or refused cycle looked at has taught nothing, so it still is.
_UNUSED = """split <> 'held_out_raters' AND NOT EXISTS (
    SELECT 1 FROM cycle_comparisons JOIN cycles ON cycles.id = cycle_comparisons.cycle_id
    WHERE cycle_comparisons.comparison_id = comparisons.id
    AND cycles.state IN ('running', 'promoted', 'rejected'))"""
_USABLE = f"""FROM comparisons JOIN raters ON raters.id = comparisons.rater_id
    WHERE withdrawn_at IS NULL AND {HEARD}"""
_OWNERS_AGREE = owners_agree("comparisons.a, comparisons.b, comparisons.prompt_id")
_TEXT = """coalesce((SELECT content FROM messages WHERE id = comparisons.{0}),
    (SELECT content FROM demonstrations WHERE id = comparisons.{0})) AS response_{0}"""
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
    (SELECT count(*) {_USABLE}) AS comparisons,
    (SELECT count(*) {_USABLE} AND {_UNUSED}) AS unused_comparisons"""
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
        self, *, split: str | None = None, unused: bool = False
    ) -> list[StoredComparison]:
        """Comparisons that may be learnt from, sorted by id, as of the last refresh.

        Args:
            split: Only one of `SPLITS`.
            unused: Leave out what a cycle has used, and `held_out_raters`, which train nothing.
        """
        with self._file.read() as db:
            return list(read_comparisons(db, split=split, unused=unused))

    def unpaired(self, *, split: str | None = None) -> list[StoredUnpaired]:
        """Judgements of one response by itself that may be learnt from, sorted by id."""
        with self._file.read() as db:
            return list(read_unpaired(db, split=split))

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
    return rows(db, _COUNTS)[0]


def read_comparisons(
    db: Database, *, split: str | None = None, unused: bool = False
) -> Iterator[StoredComparison]:
    """Comparisons that may be learnt from with their effective weights, one at a time."""
    one_of(split, (None, *SPLITS), "the split")
    weights, prompts = rater_weights(db), _prompts(db)
    sql = f"""SELECT comparisons.*, {_TEXT.format("a")}, {_TEXT.format("b")},
            {_WRITER.format("a")}, {_WRITER.format("b")}
        {_USABLE} AND {_OWNERS_AGREE} AND (:split IS NULL OR split = :split)
        {"AND " + _UNUSED if unused else ""} ORDER BY comparisons.id"""
    for row in stream(db, sql, {"split": split}):
        weight = row["weight"] * weights.get(row["rater_id"], 1.0)
        if weight:
            yield to_record(
                StoredComparison, row | {"prompt": prompts(row["prompt_id"]), "weight": weight}
            )


def read_unpaired(db: Database, *, split: str | None = None) -> Iterator[StoredUnpaired]:
    """Judgements of one response with their effective weights, one at a time."""
    one_of(split, (None, *SPLITS), "the split")
    weights, prompts = rater_weights(db), _prompts(db)
    sql = f"""SELECT unpaired.*, messages.content AS response FROM unpaired
        JOIN raters ON raters.id = unpaired.rater_id
        JOIN messages ON messages.id = unpaired.message_id
        WHERE {HEARD} AND {owners_agree("unpaired.message_id, unpaired.prompt_id")}
        AND (:split IS NULL OR split = :split) ORDER BY unpaired.id"""
    for row in stream(db, sql, {"split": split}):
        weight = row["weight"] * weights.get(row["rater_id"], 1.0)
        if weight:
            yield to_record(
                StoredUnpaired, row | {"prompt": prompts(row["prompt_id"]), "weight": weight}
            )


def _prompts(db: Database) -> Callable[[str], Prompt]:
    @lru_cache(maxsize=_PROMPTS_KEPT)
    def prompt(message_id: str) -> Prompt:
        return prompt_of(path_to(db, message_id))

    return prompt
