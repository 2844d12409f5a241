"""What people said, one line each, for an operator who looks through it.

These are the opinions that a cycle may learn from or is measured on, as of the last refresh:
comparisons, judgements of one reply, and answers that people wrote. What the operator left out is
not among them (`leaving_out` lists it). Nothing here writes.
"""

from dataclasses import asdict, dataclass

from feedback_store.errors import InvalidFeedbackError
from feedback_store.feedback.events import LEFT_OUT_VOTES
from feedback_store.records import SPLITS
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import rows, to_record

KINDS = (
    "choice",
    "ranking",
    "edit",
    "thumbs",
    "than_before",
    "retry",
    "thumb",
    "both_bad",
    "demonstration",
)
MOST_ROWS = 200
_QUESTION_CHARS = 200

_SAID = f"""WITH said AS (
        SELECT id, source AS kind, rater_id, prompt_id AS message_id, split, weight, created_at,
            '[]' AS prompt, event_ids FROM comparisons
            WHERE withdrawn_at IS NULL AND source <> 'ranking'
        UNION ALL SELECT event_ids ->> 0, source, rater_id, prompt_id, split, total(weight),
            min(created_at), '[]', event_ids FROM comparisons
            WHERE withdrawn_at IS NULL AND source = 'ranking' GROUP BY event_ids
        UNION ALL SELECT id, source, rater_id, prompt_id, split, weight, created_at, '[]',
            json_array(event_id) FROM unpaired
        UNION ALL SELECT demonstrations.id, 'demonstration', rater_id,
            coalesce((SELECT parent_id FROM messages WHERE id = message_id), message_id),
            CASE WHEN demonstrations.held_out THEN 'held_out'
                WHEN raters.held_out THEN 'held_out_raters' ELSE 'train' END,
            1.0, demonstrations.created_at, prompt, json_array(demonstrations.id)
            FROM demonstrations JOIN raters ON raters.id = rater_id WHERE superseded_at IS NULL
            AND demonstrations.id NOT IN {LEFT_OUT_VOTES})
    SELECT said.id, kind, said.rater_id, conversation_id, said.split, weight, said.created_at,
        event_ids, substr(
            coalesce(messages.content, prompt ->> '$[#-1].content', ''), 1, {_QUESTION_CHARS}
        ) AS question
    FROM said LEFT JOIN messages ON messages.id = said.message_id
    WHERE (:kind IS NULL OR kind = :kind) AND (:rater_id IS NULL OR said.rater_id = :rater_id)
    AND (:split IS NULL OR said.split = :split)
    AND (:since IS NULL OR said.created_at >= :since)
    AND (:until IS NULL OR said.created_at < :until)
    AND (:before IS NULL OR said.created_at || said.id < :before)
    ORDER BY said.created_at || said.id DESC LIMIT :limit"""


@dataclass(frozen=True, slots=True)
class SaidFilter:
    """Which opinions to show; None takes all. Times are UTC ISO 8601, `until` is left out."""

    kind: str | None = None
    rater_id: str | None = None
    split: str | None = None
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class SaidLine:
    """One opinion: its kind, whose it is, and the beginning of the question that it is about.

    `conversation_id` is None for an answer that was written to no reply. `event_ids` are the votes
    that it was made of: two thumbs or more may be one comparison. A ranking is one line, with the
    weight that all its pairs have together.
    """

    id: str
    kind: str
    rater_id: str
    conversation_id: str | None
    split: str
    weight: float
    created_at: str
    question: str
    event_ids: tuple[str, ...]

    @property
    def place(self) -> str:
        """Its place in the order; `said` goes on before it."""
        return self.created_at + self.id


class Browsing:
    """Looking through the opinions of a store."""

    _file: SQLiteFile

    def said(
        self, wanted: SaidFilter | None = None, *, before: str | None = None, limit: int = 50
    ) -> list[SaidLine]:
        """Opinions, newest first.

        Args:
            wanted: Which ones.
            before: Those older than this `place`.
            limit: How many at most.

        Raises:
            InvalidFeedbackError: There is no such kind or split, or the limit is out of range.
        """
        wanted = wanted or SaidFilter()
        if wanted.kind not in (None, *KINDS):
            raise InvalidFeedbackError(f"no opinion is a {wanted.kind!r}; use one of {KINDS}.")
        if wanted.split not in (None, *SPLITS):
            raise InvalidFeedbackError(f"there is no split {wanted.split!r}; use one of {SPLITS}.")
        if not 1 <= limit <= MOST_ROWS:
            raise InvalidFeedbackError(f"{limit} rows cannot be given; ask for 1 to {MOST_ROWS}.")
        given = asdict(wanted) | {"before": before, "limit": limit}
        with self._file.long_read() as db:
            return [to_record(SaidLine, row) for row in rows(db, _SAID, given)]
