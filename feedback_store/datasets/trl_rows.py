"""The rows of each export format, selected and written as TRL's dataset formats want them.

Invariants: nobody without consent, in quarantine or of reliability 0 appears, and nothing that the
operator left out, except in raw events; what is held out appears only on request, so a file may be
trained on as it is; rows are streamed, so memory does not grow with them. The columns are those
that TRL reads; `with_metadata` adds more.
A new format is a row function here, its sources in `exports.py`, and its name in the command.

Source:
    TRL 1.16, "Dataset formats and types": preference, unpaired preference, language modeling,
    prompt-completion, prompt-only.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sqlite_utils import Database

from feedback_store.errors import InvalidFeedbackError
from feedback_store.feedback.conversations import GOLD_CONVERSATIONS
from feedback_store.feedback.events import (
    HEARD,
    LEFT_OUT_CONVERSATIONS,
    LEFT_OUT_VOTES,
    owners_agree,
)
from feedback_store.feedback.messages import path_to, prompt_of
from feedback_store.raters.standing import rater_weights
from feedback_store.records import (
    RATER_KINDS,
    SPLITS,
    StoredComparison,
    StoredDemonstration,
    StoredUnpaired,
)
from feedback_store.splits import split_of, visible
from feedback_store.sqlite.rows import Row, first, one_of, rows, stream, to_record
from feedback_store.training_data import read_comparisons, read_unpaired

Form = Literal["events", "preference", "unpaired", "sft", "prompts"]
FORMS: tuple[Form, ...] = ("events", "preference", "unpaired", "sft", "prompts")
METADATA = ("id", "created_at", "rater", "rater_kind", "source", "split", "weight", "strength")
# Of a preference: the ranking that it is a pair of, if it is one, and how its replies came to be
# shown together.
OF_PAIR = ("ranking", "arm", "propensity")
ALL = "all"  # every split
TRAIN = "train"
TIES = "ties"
TWINS = "pairs that a reader cannot tell apart"

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
# Nothing for replies that nobody saw side by side.
_CHOSEN = """SELECT iif(source = 'ranking', event_ids ->> 0, NULL) AS ranking,
    coalesce(arm, 'random') AS arm, coalesce(propensity, 1.0) AS propensity
    FROM comparisons JOIN messages AS one ON one.id = a JOIN messages AS other ON other.id = b
    JOIN candidates ON candidates.id IN (one.candidates_id, other.candidates_id)
    WHERE comparisons.id = ? AND source IN ('choice', 'ranking')
    AND one.candidates_id = other.candidates_id"""
_DEMONSTRATIONS = f"""SELECT demonstrations.*, raters.held_out FROM demonstrations
    JOIN raters ON raters.id = demonstrations.rater_id
    WHERE superseded_at IS NULL AND {HEARD} AND {owners_agree("demonstrations.message_id")}
    AND demonstrations.id NOT IN {LEFT_OUT_VOTES} ORDER BY demonstrations.rowid"""
_SPLIT = """CASE WHEN messages.held_out THEN 'held_out'
    WHEN raters.held_out THEN 'held_out_raters' ELSE 'train' END"""
# Grouping is by SQLite, which sorts on disk: the prompts need not fit into memory.
_PROMPTS = f"""SELECT messages.id, messages.created_at, raters.id AS rater, {_SPLIT} AS split
    FROM (SELECT min(messages.rowid) AS place FROM messages
        JOIN conversations ON conversations.id = conversation_id
        JOIN raters ON raters.id = conversations.rater_id
        WHERE role = 'user' AND {HEARD} AND deleted_at IS NULL
        AND conversation_id NOT IN ({GOLD_CONVERSATIONS})
        AND conversation_id NOT IN {LEFT_OUT_CONVERSATIONS}
        AND (:split IS NULL OR {_SPLIT} = :split)
        GROUP BY path_hash)
    JOIN messages ON messages.rowid = place
    JOIN conversations ON conversations.id = conversation_id
    JOIN raters ON raters.id = conversations.rater_id ORDER BY place"""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Which rows an export takes, and how it writes them. None takes all, except for `split`.

    `split` is one of `SPLITS`, or "all"; None is "train". `source` is a comparison's or an unpaired
    judgement's, or "edit" and "demonstration" for rewritten and free ones. `adapter` made at least
    one of the replies. `with_metadata` adds the columns `METADATA`, and `OF_PAIR`
    to preferences. `without` leaves out what raters of these kinds said. Events take none of these
    but the last.
    """

    split: str | None = None
    source: str | None = None
    adapter: str | None = None
    with_metadata: bool = False
    without: tuple[str, ...] = ()

    @property
    def one_split(self) -> str | None:
        """The only split to take; None if that is all of them."""
        return None if self.split == ALL else self.split or TRAIN


def checked(form: str, options: ExportOptions) -> ExportOptions:
    """The options with the split by its name.

    Raises:
        InvalidFeedbackError: There is no such format, or an option does not fit it.
    """
    one_of(form, FORMS, "the format of an export")
    given = {name for name, value in asdict(options).items() if value is not None and value}
    for kind in options.without:
        one_of(kind, RATER_KINDS, "the kind of raters that is left out")
    fitting = {"without"}
    if form != "events":
        fitting |= {"split", "source", "with_metadata"}
    if form in _MAKERS:
        fitting |= {"adapter"}
    if given - fitting:
        raise InvalidFeedbackError(
            f"{min(given - fitting)!r} does not fit the format {form!r}; leave it out."
        )
    if form == "events":
        return options
    options = replace(options, split=TRAIN if options.split is None else options.split)
    one_of(options.split, (ALL, *SPLITS), "the split")
    return options


def columns(form: str, options: ExportOptions) -> tuple[str, ...]:
    """The names of the columns of a data set."""
    if not options.with_metadata:
        return _COLUMNS[form]
    return (*_COLUMNS[form], *METADATA, *(OF_PAIR if form == "preference" else ()))


def data_set(
    db: Database, form: str, options: ExportOptions, left_out: Counter[str]
) -> Iterator[tuple[str, Row]]:
    """The rows of a data set, each with the rater who said it.

    `left_out` counts why selected ones have no place in the format.
    """
    kinds = {row["id"]: row["kind"] for row in rows(db, "SELECT id, kind FROM raters")}
    for facts, row in _SOURCES[form](db, options, left_out):
        kind = kinds[facts["rater"]]
        if kind in options.without:
            left_out[f"of raters of the kind {kind}"] += 1
            continue
        facts |= {"rater_kind": kind}
        yield facts["rater"], row | facts if options.with_metadata else row


def _preference(
    db: Database, options: ExportOptions, left_out: Counter[str]
) -> Iterator[tuple[Row, Row]]:
    for item in read_comparisons(db, split=options.one_split):
        facts = _facts(item, item.source, item.split, item.weight) | {"strength": item.strength}
        if not _taken(db, "preference", facts, options):
            continue
        if item.label == "tie":
            left_out[TIES] += 1
            continue
        if visible(item.response_a) == visible(item.response_b):
            left_out[TWINS] += 1
            continue
        if options.with_metadata:
            facts |= first(db, _CHOSEN, [item.id]) or dict.fromkeys(OF_PAIR)
        better = item if item.label == "a" else item.swap()
        chosen, rejected = _said(better.response_a), _said(better.response_b)
        yield facts, {"prompt": list(better.prompt), "chosen": chosen, "rejected": rejected}


def _unpaired(db: Database, options: ExportOptions, _: Counter[str]) -> Iterator[tuple[Row, Row]]:
    for item in read_unpaired(db, split=options.one_split):
        facts = _facts(item, item.source, item.split, item.weight)
        if _taken(db, "unpaired", facts, options):
            said = _said(item.response)
            yield facts, {"prompt": list(item.prompt), "completion": said, "label": item.good}


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
        yield facts, {"messages": list(item.prompt) + _said(item.content)}


def _prompts(db: Database, options: ExportOptions, _: Counter[str]) -> Iterator[tuple[Row, Row]]:
    weights = rater_weights(db)
    for row in stream(db, _PROMPTS, {"split": options.one_split}):
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
    return options.source in (None, facts["source"]) and (
        options.adapter is None
        or first(db, _MAKERS[form], [facts["id"], options.adapter]) is not None
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


def _said(response: str) -> list[Row]:
    return [{"role": "assistant", "content": response}]
