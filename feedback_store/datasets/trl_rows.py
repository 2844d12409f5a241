"""The rows of each export format, selected and written as TRL's dataset formats want them.

Invariants: nobody without consent, in quarantine or of reliability 0 appears, raw events excepted;
what is held out appears only if that is asked for, so that a file may be trained on as it is; rows
are streamed, so memory does not grow with them. The columns are those that TRL reads; more only if
asked for.

Source:
    TRL 1.16, "Dataset formats and types": preference, unpaired preference, language modeling,
    prompt-completion, prompt-only.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from sqlite_utils import Database

from feedback_store.errors import InvalidFeedbackError
from feedback_store.feedback.conversations import GOLD_CONVERSATIONS
from feedback_store.feedback.events import HEARD, owners_agree
from feedback_store.feedback.messages import path_to, prompt_of
from feedback_store.raters.standing import rater_weights
from feedback_store.records import SPLITS, StoredComparison, StoredDemonstration, StoredUnpaired
from feedback_store.splits import split_of
from feedback_store.sqlite.ids import iso_utc
from feedback_store.sqlite.rows import Row, first, one_of, stream, to_record
from feedback_store.training_data import read_comparisons, read_unpaired

Form = Literal["events", "preference", "unpaired", "sft", "prompts"]
FORMS: tuple[Form, ...] = ("events", "preference", "unpaired", "sft", "prompts")
METADATA = ("id", "created_at", "rater", "source", "split", "weight", "strength")
ALL = "all"  # every split
TRAIN = "train"
TIES = "ties"

_COLUMNS = {
    "preference": ("prompt", "chosen", "rejected"),
    "unpaired": ("prompt", "completion", "label"),
    "sft": ("messages",),
    "prompts": ("prompt",),
}
_MAKERS = {
    "preference": """SELECT 1 FROM comparisons JOIN messages ON messages.id IN (a, b)
        WHERE comparisons.id = ? AND adapter = ?""",
    "unpaired": """SELECT 1 FROM unpaired JOIN messages ON messages.id = message_id
        WHERE unpaired.id = ? AND adapter = ?""",
    "sft": """SELECT 1 FROM demonstrations JOIN messages ON messages.id = message_id
        WHERE demonstrations.id = ? AND adapter = ?""",
}
_DEMONSTRATIONS = f"""SELECT demonstrations.*, raters.held_out FROM demonstrations
    JOIN raters ON raters.id = demonstrations.rater_id
    WHERE superseded_at IS NULL AND {HEARD} AND {owners_agree("demonstrations.message_id")}
    ORDER BY demonstrations.rowid"""
_SPLIT = """CASE WHEN messages.held_out THEN 'held_out'
    WHEN raters.held_out THEN 'held_out_raters' ELSE 'train' END"""
# Grouping is by SQLite, which sorts on disk: the prompts need not fit into memory.
_PROMPTS = f"""SELECT messages.id, messages.created_at, raters.id AS rater, {_SPLIT} AS split
    FROM (SELECT min(messages.rowid) AS place FROM messages
        JOIN conversations ON conversations.id = conversation_id
        JOIN raters ON raters.id = conversations.rater_id
        WHERE role = 'user' AND {HEARD} AND conversation_id NOT IN ({GOLD_CONVERSATIONS})
        AND (:split IS NULL OR {_SPLIT} = :split) AND (:rater IS NULL OR raters.id = :rater)
        AND (:since IS NULL OR messages.created_at >= :since)
        GROUP BY path_hash)
    JOIN messages ON messages.rowid = place
    JOIN conversations ON conversations.id = conversation_id
    JOIN raters ON raters.id = conversations.rater_id ORDER BY place"""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Which rows an export takes, and how it writes them; None takes all, but for `split`.

    `split` is one of `SPLITS`, or "all"; None is "train", except for events, which know no splits.
    `since` is a UTC time in ISO 8601; `source` a comparison's or an unpaired judgement's, or
    "edit" and "demonstration" for rewritten and free ones; `adapter` made at least one of the
    replies; `min_weight` is compared with the weight that training would give. `split_comparisons`
    adds both replies of each comparison to the unpaired ones; `prompt_completion` writes
    demonstrations in two columns, so that TRL's loss is on what the rater wrote alone.
    """

    split: str | None = None
    since: str | None = None
    source: str | None = None
    rater: str | None = None
    adapter: str | None = None
    min_weight: float | None = None
    with_metadata: bool = False
    split_comparisons: bool = False
    prompt_completion: bool = False

    @property
    def one_split(self) -> str | None:
        """The only split to take; None if that is all of them."""
        return None if self.split == ALL else self.split or TRAIN


def checked(form: str, options: ExportOptions) -> ExportOptions:
    """The options in full: the split by its name, the time as the store writes it.

    Raises:
        InvalidFeedbackError: There is no such format, or an option does not fit it.
    """
    one_of(form, FORMS, "the format of an export")
    given = {name for name, value in asdict(options).items() if value is not None and value}
    fitting = {"since", "rater"}
    if form != "events":
        fitting |= {"split", "source", "min_weight", "with_metadata"}
    if form in _MAKERS:
        fitting |= {"adapter"}
    fitting |= {"unpaired": {"split_comparisons"}, "sft": {"prompt_completion"}}.get(form, set())
    if given - fitting:
        raise InvalidFeedbackError(
            f"{min(given - fitting)!r} does not fit the format {form!r}; leave it out."
        )
    if form != "events":
        options = replace(options, split=TRAIN if options.split is None else options.split)
        one_of(options.split, (ALL, *SPLITS), "the split")
    return options if options.since is None else replace(options, since=_utc(options.since))


def columns(form: str, options: ExportOptions) -> tuple[str, ...]:
    """The names of the columns of a data set."""
    names = ("prompt", "completion") if options.prompt_completion else _COLUMNS[form]
    return (*names, *METADATA) if options.with_metadata else names


def data_set(
    db: Database, form: str, options: ExportOptions, left_out: Counter[str]
) -> Iterator[Row]:
    """The rows of a data set; `left_out` counts why selected ones have no place in the format."""
    for facts, row in _SOURCES[form](db, options, left_out):
        yield row | facts if options.with_metadata else row


def select_events(events: Iterable[Row], options: ExportOptions) -> Iterator[Row]:
    """The raw events that the options take."""
    for event in events:
        if (options.rater is None or event["rater_id"] == options.rater) and (
            options.since is None or event["created_at"] >= options.since
        ):
            yield event


def _utc(text: str) -> str:
    """A time as the store writes it; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidFeedbackError(
            f"{text!r} is no time; give one such as 2026-01-31 or 2026-01-31T12:00:00Z."
        ) from exc
    return iso_utc(time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))


def _preference(
    db: Database, options: ExportOptions, left_out: Counter[str]
) -> Iterator[tuple[Row, Row]]:
    for facts, item in _comparisons(db, options, left_out):
        better = item if item.label == "a" else item.swap()
        yield (
            facts,
            {
                "prompt": list(better.prompt),
                "chosen": _said(better.response_a),
                "rejected": _said(better.response_b),
            },
        )


def _unpaired(
    db: Database, options: ExportOptions, left_out: Counter[str]
) -> Iterator[tuple[Row, Row]]:
    for item in read_unpaired(db, split=options.one_split):
        facts = _facts(item, item.source, item.split, item.weight)
        if _taken(db, "unpaired", facts, options):
            yield facts, _single(item, item.response, good=item.good)
    if options.split_comparisons:
        for facts, pair in _comparisons(db, options, left_out):
            yield facts, _single(pair, pair.response_a, good=pair.label == "a")
            yield facts, _single(pair, pair.response_b, good=pair.label == "b")


def _comparisons(
    db: Database, options: ExportOptions, left_out: Counter[str]
) -> Iterator[tuple[Row, StoredComparison]]:
    """The selected comparisons that are no ties."""
    for item in read_comparisons(db, split=options.one_split):
        facts = _facts(item, item.source, item.split, item.weight) | {"strength": item.strength}
        if not _taken(db, "preference", facts, options):
            continue
        if item.label == "tie":
            left_out[TIES] += 1
        else:
            yield facts, item


def _demonstrations(
    db: Database, options: ExportOptions, _: Counter[str]
) -> Iterator[tuple[Row, Row]]:
    weights = rater_weights(db)
    for row in stream(db, _DEMONSTRATIONS):
        item = to_record(StoredDemonstration, row)
        split = split_of(item.prompt, held_out_rater=bool(row["held_out"]))
        source = "demonstration" if item.message_id is None else "edit"
        facts = _facts(item, source, split, weights.get(item.rater_id, 1.0))
        if options.one_split not in (None, split) or not _taken(db, "sft", facts, options):
            continue
        prompt, written_by_rater = list(item.prompt), _said(item.content)
        if options.prompt_completion:
            yield facts, {"prompt": prompt, "completion": written_by_rater}
        else:
            yield facts, {"messages": prompt + written_by_rater}


def _prompts(db: Database, options: ExportOptions, _: Counter[str]) -> Iterator[tuple[Row, Row]]:
    weights = rater_weights(db)
    selected = {"split": options.one_split, "rater": options.rater, "since": options.since}
    for row in stream(db, _PROMPTS, selected):
        weight = weights.get(row["rater"], 1.0)
        facts = row | {"source": "chat", "weight": weight, "strength": None}
        if _taken(db, "prompts", facts, options):
            yield facts, {"prompt": list(prompt_of(path_to(db, row["id"])))}


Source = Callable[[Database, ExportOptions, Counter[str]], Iterator[tuple[Row, Row]]]
_SOURCES: dict[str, Source] = {
    "preference": _preference,
    "unpaired": _unpaired,
    "sft": _demonstrations,
    "prompts": _prompts,
}


def _taken(db: Database, form: str, facts: Row, options: ExportOptions) -> bool:
    """Whether the filters take a row."""
    return (
        (options.since is None or facts["created_at"] >= options.since)
        and options.source in (None, facts["source"])
        and options.rater in (None, facts["rater"])
        and (options.min_weight is None or facts["weight"] >= options.min_weight)
        and (
            options.adapter is None
            or first(db, _MAKERS[form], [facts["id"], options.adapter]) is not None
        )
    )


def _facts(
    item: StoredComparison | StoredUnpaired | StoredDemonstration,
    source: str,
    split: str,
    weight: float,
) -> dict[str, Any]:
    return {
        "id": item.id,
        "created_at": item.created_at,
        "rater": item.rater_id,
        "source": source,
        "split": split,
        "weight": weight,
        "strength": None,
    }


def _single(item: StoredComparison | StoredUnpaired, response: str, *, good: bool) -> Row:
    return {"prompt": list(item.prompt), "completion": _said(response), "label": good}


def _said(response: str) -> list[Row]:
    return [{"role": "assistant", "content": response}]
