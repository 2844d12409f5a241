"""Out: what may be learnt from, in TRL's conversational dataset formats.

Invariants: nobody without consent or in quarantine appears; rows are streamed from one snapshot, so
memory does not grow with them; a file appears whole or not at all, and only if nobody was forgotten
while it was being written. Its path is in the audit table before its first byte, so that erasure
can find every copy. The columns are those that TRL reads; more only if asked for.

Source:
    TRL 1.16, "Dataset formats and types": preference, unpaired preference, language modeling,
    prompt-completion, prompt-only.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlite_utils import Database

from feedback_store.comparisons import split_of
from feedback_store.conversations import audit, path_to
from feedback_store.database import SQLiteFile
from feedback_store.dataset_files import write_lines, write_parquet, written
from feedback_store.errors import (
    ConflictError,
    FeedbackStoreError,
    InvalidFeedbackError,
    StoreUnavailableError,
)
from feedback_store.events import HEARD, owners_agree, prompt_of
from feedback_store.ids import iso_utc
from feedback_store.learning import read_comparisons, read_unpaired
from feedback_store.raters import rater_weights
from feedback_store.records import SPLITS, Comparison, Demonstration, Unpaired
from feedback_store.rows import Row, first, one_of, scalar, stream, to_record

Form = Literal["events", "preference", "unpaired", "sft", "prompts"]
FORMS: tuple[Form, ...] = ("events", "preference", "unpaired", "sft", "prompts")
METADATA = ("id", "created_at", "rater", "source", "split", "weight", "strength")
EXPORTS = "exports"  # folder beside the database for exports that are given no other place
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
        WHERE role = 'user' AND {HEARD}
        AND (:split IS NULL OR {_SPLIT} = :split) AND (:rater IS NULL OR raters.id = :rater)
        AND (:since IS NULL OR messages.created_at >= :since)
        GROUP BY path_hash)
    JOIN messages ON messages.rowid = place
    JOIN conversations ON conversations.id = conversation_id
    JOIN raters ON raters.id = conversations.rater_id ORDER BY place"""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Which rows an export takes, and how it writes them; None takes all.

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


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how many rows were left out for which reason; no path: no file."""

    path: Path | None
    form: str
    rows: int
    left_out: Mapping[str, int] = field(default_factory=dict)


class Exports:
    """Data sets of a store."""

    _file: SQLiteFile

    def export_rows(
        self,
        form: str,
        options: ExportOptions | None = None,
        *,
        left_out: Counter[str] | None = None,
    ) -> Iterator[Row]:
        """The rows of one of `FORMS`, as of the last refresh.

        Args:
            form: "events" are all raw events, of people without consent too; only `since` and
                `rater` select from them.
            options: What to take.
            left_out: Counts why rows that were selected have no place in the format.

        Raises:
            InvalidFeedbackError: An option does not fit.
        """
        one_of(form, FORMS, "the format of an export")
        options = _checked(form, options or ExportOptions())
        if form == "events":
            return _events(self.export_events(), options)  # type: ignore[attr-defined]
        return self._rows(form, options, Counter() if left_out is None else left_out)

    def export_preferences(self, *, split: str | None = None) -> Iterator[Row]:
        """Comparisons that are not ties, in TRL's preference format."""
        return self.export_rows("preference", ExportOptions(split=split))

    def export_file(
        self, path: Path | str, form: str, options: ExportOptions | None = None
    ) -> ExportReport:
        """Write the rows of one of `FORMS` to a `.parquet` file, or to one of JSON lines.

        Raises:
            ConflictError: A rater was forgotten meanwhile; there is no new file.
            StoreUnavailableError: The file cannot be written.
        """
        target, options = Path(path).resolve(), options or ExportOptions()
        left_out: Counter[str] = Counter()
        rows = self.export_rows(form, options, left_out=left_out)
        if target.suffix == ".parquet" and form == "events":
            raise InvalidFeedbackError(
                f"events do not fit into a table such as {target.name}; give a .jsonl file."
            )
        note = _note(self._file, target, form, options)
        try:
            with written(
                target, lambda partial: _publish(self._file, partial, target, note)
            ) as partial:
                if target.suffix == ".parquet":
                    count = write_parquet(partial, rows, _columns(form, options))
                else:
                    count = write_lines(partial, rows)
        except FeedbackStoreError:
            raise  # some of these are OSErrors too, and say more
        except OSError as exc:
            raise StoreUnavailableError(
                f"cannot write {target} ({exc.strerror or exc}); choose another file."
            ) from exc
        return ExportReport(target, form, count, dict(left_out))

    def _rows(self, form: str, options: ExportOptions, left_out: Counter[str]) -> Iterator[Row]:
        with self._file.long_read() as db:
            for facts, columns in _SOURCES[form](db, options, left_out):
                yield columns | facts if options.with_metadata else columns


def _note(file: SQLiteFile, target: Path, form: str, options: ExportOptions) -> int:
    """Say in the audit table where a copy is about to be; return the number of the entry."""
    given = {name: value for name, value in asdict(options).items() if value}
    with file.write() as db:
        audit(db, "export", path=str(target), format=form, **given)
        return int(scalar(db, "SELECT max(id) FROM audit"))


def _publish(file: SQLiteFile, partial: Path, target: Path, note: int) -> None:
    """Name a finished file, in a write: meanwhile nobody can be forgotten."""
    sql = "SELECT 1 FROM audit WHERE id >= ? AND action IN ('forget', 'sweep')"
    with file.write() as db:
        if first(db, sql, [note]) is not None:
            raise ConflictError(
                f"conversations were deleted while {target} was being written; export again."
            )
        partial.replace(target)


def _checked(form: str, options: ExportOptions) -> ExportOptions:
    one_of(options.split, (None, *SPLITS), "the split")
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
    return options if options.since is None else replace(options, since=_utc(options.since))


def _utc(text: str) -> str:
    """A time as the store writes it; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidFeedbackError(
            f"{text!r} is no time; give one such as 2026-01-31 or 2026-01-31T12:00:00Z."
        ) from exc
    return iso_utc(time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))


def _columns(form: str, options: ExportOptions) -> tuple[str, ...]:
    columns = ("prompt", "completion") if options.prompt_completion else _COLUMNS[form]
    return (*columns, *METADATA) if options.with_metadata else columns


def _events(events: Iterable[Row], options: ExportOptions) -> Iterator[Row]:
    for event in events:
        if (options.rater is None or event["rater_id"] == options.rater) and (
            options.since is None or event["created_at"] >= options.since
        ):
            yield event


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
    for item in read_unpaired(db, split=options.split):
        facts = _facts(item, item.source, item.split, item.weight)
        if _taken(db, "unpaired", facts, options):
            yield facts, _single(item, item.response, good=item.good)
    if options.split_comparisons:
        for facts, pair in _comparisons(db, options, left_out):
            yield facts, _single(pair, pair.response_a, good=pair.label == "a")
            yield facts, _single(pair, pair.response_b, good=pair.label == "b")


def _comparisons(
    db: Database, options: ExportOptions, left_out: Counter[str]
) -> Iterator[tuple[Row, Comparison]]:
    """The selected comparisons that are no ties."""
    for item in read_comparisons(db, split=options.split):
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
        item = to_record(Demonstration, row)
        split = split_of(item.prompt, held_out_rater=bool(row["held_out"]))
        source = "demonstration" if item.message_id is None else "edit"
        facts = _facts(item, source, split, weights.get(item.rater_id, 1.0))
        if options.split not in (None, split) or not _taken(db, "sft", facts, options):
            continue
        prompt, written_by_rater = list(item.prompt), _said(item.content)
        if options.prompt_completion:
            yield facts, {"prompt": prompt, "completion": written_by_rater}
        else:
            yield facts, {"messages": prompt + written_by_rater}


def _prompts(db: Database, options: ExportOptions, _: Counter[str]) -> Iterator[tuple[Row, Row]]:
    weights = rater_weights(db)
    selected = {name: getattr(options, name) for name in ("split", "rater", "since")}
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
    item: Comparison | Unpaired | Demonstration, source: str, split: str, weight: float
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


def _single(item: Comparison | Unpaired, response: str, *, good: bool) -> Row:
    return {"prompt": list(item.prompt), "completion": _said(response), "label": good}


def _said(response: str) -> list[Row]:
    return [{"role": "assistant", "content": response}]
