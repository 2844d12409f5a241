"""What may be learnt from, as rows or as files; the formats are in `trl_rows`.

Invariants: rows are streamed from one snapshot; a file appears whole or not at all, only if nobody
was forgotten while it was being written, and replaces another only on request. Its path is in the
audit table before its first byte is written, and whose words are in it when it gets its name, so
that erasure can find every copy. A data set
without rows is not written: libraries refuse to read it, and it may hide a mistake.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from feedback_store.datasets.event_files import people_of
from feedback_store.datasets.outputs import write_lines, write_parquet
from feedback_store.datasets.trl_rows import (
    ExportOptions,
    checked,
    columns,
    data_set,
)
from feedback_store.errors import (
    ConflictError,
    FeedbackStoreError,
    InvalidFeedbackError,
    StoreUnavailableError,
)
from feedback_store.privacy.copies import note_people, owners_of_judged, rater_hash
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import Row, audit, first, one_of, scalar
from feedback_store.whole_files import new_file

_SOURCES: dict[str, tuple[str, ...]] = {
    "preference": ("choice", "ranking", "edit", "than_before", "thumbs", "retry"),
    "unpaired": ("thumb", "both_bad"),
    "sft": ("edit", "demonstration"),
    "prompts": ("chat",),
}
_KNOWN_ADAPTER = """SELECT 1 WHERE ?1 IN (SELECT name FROM adapters)
    OR EXISTS (SELECT 1 FROM messages WHERE adapter = ?1)"""


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
        people: set[str] | None = None,
    ) -> Iterator[Row]:
        """The rows of one of `trl_rows.FORMS`, as of the last refresh.

        Args:
            form: "events" are all raw events, of people without consent too. The others are data
                sets, of the training split unless another is named.
            options: What to take.
            left_out: Counts why rows that were selected have no place in the format.
            people: Gets the ids of those whose words are, or may be, in the rows.

        Raises:
            InvalidFeedbackError: An option does not fit, or names something that does not exist.
        """
        options = checked(form, options or ExportOptions())
        _check_filters(self._file, form, options)
        people = set() if people is None else people
        if form == "events":
            events: Iterator[Row] = self.export_events()  # type: ignore[attr-defined]
            if options.without:
                events = (e for e in events if e["rater"]["kind"] not in options.without)
            return _noting(events, people)
        return self._rows(form, options, Counter() if left_out is None else left_out, people)

    def export_file(
        self,
        path: Path | str,
        form: str,
        options: ExportOptions | None = None,
        *,
        replace: bool = False,
    ) -> ExportReport:
        """Write the rows of one of the formats to a `.parquet` file, or as JSON lines (also `.gz`).

        Args:
            path: Where to write; missing folders are made.
            form: As for `export_rows`, and so are the options.
            options: What to take.
            replace: Replace a file that is there; it stays until the new one is whole.

        Raises:
            ConflictError: The file exists, a rater was forgotten meanwhile, or no row of a data set
                was selected; no file was written.
            StoreUnavailableError: The file cannot be written.
        """
        target, options = Path(path).resolve(), checked(form, options or ExportOptions())
        _check_target(target, form, replace=replace)
        left_out, people = Counter[str](), set[str]()
        rows = self.export_rows(form, options, left_out=left_out, people=people)

        def publish(partial: Path) -> None:
            _publish(self._file, partial, target, people, note=note, replace=replace)

        try:
            with new_file(target, publish) as partial:  # refuses what cannot be written, so no note
                note = _note(self._file, target, form, options)
                if target.suffix.lower() == ".parquet":
                    count = write_parquet(partial, rows, columns(form, options))
                else:
                    packed = target.suffix.lower() == ".gz"
                    count = write_lines(partial, rows, packed=packed)
                if not count and form != "events":
                    _refuse_empty(self._file, target, form, left_out, note=note)
        except FeedbackStoreError:
            raise  # some of these are OSErrors too, and say more
        except OSError as exc:
            raise StoreUnavailableError(
                f"cannot write {target} ({exc.strerror or exc}); choose another file."
            ) from exc
        return ExportReport(target, form, count, dict(left_out))

    def _rows(
        self, form: str, options: ExportOptions, left_out: Counter[str], people: set[str]
    ) -> Iterator[Row]:
        with self._file.long_read() as db:
            for rater, row in data_set(db, form, options, left_out):
                people.add(rater)
                yield row
            people |= owners_of_judged(db, form)


def _noting(events: Iterator[Row], people: set[str]) -> Iterator[Row]:
    """Events, of which those whose words are in them are added to `people`."""
    for event in events:
        people.update(person["id"] for person in people_of(event))
        yield event


def _check_filters(file: SQLiteFile, form: str, options: ExportOptions) -> None:
    """Refuse a filter that names nothing: no rows would look like an answer."""
    if options.source is not None:
        one_of(options.source, _SOURCES[form], f"the source of {form}")
    if options.adapter is not None:
        with file.read() as db:
            if first(db, _KNOWN_ADAPTER, [options.adapter]) is None:
                raise InvalidFeedbackError(
                    f"there is no adapter {options.adapter!r}; check the name."
                )


def _refuse_empty(
    file: SQLiteFile, target: Path, form: str, left_out: Mapping[str, int], *, note: int
) -> None:
    """Delete the note, too: nothing was written about anybody."""
    with file.write() as db:
        db.table("audit").delete(note)
    besides = "".join(f" ({what} left out: {count})" for what, count in left_out.items())
    raise ConflictError(
        f"0 rows of {form} fit{besides}, and an empty data set is not written to {target}; "
        "ask for another split or fewer filters."
    )


def _check_target(target: Path, form: str, *, replace: bool) -> None:
    """Refuse at once what would be refused in the end."""
    if target.exists() and not target.is_file():
        raise InvalidFeedbackError(f"{target} is not a regular file; give the name of a file.")
    if target.suffix.lower() == ".parquet" and form == "events":
        raise InvalidFeedbackError(
            f"events do not fit into a table such as {target.name}; give a .jsonl file."
        )
    if os.path.isfile(target) and not replace:  # False, too, where one may not look
        raise _in_the_way(target)


def _note(file: SQLiteFile, target: Path, form: str, options: ExportOptions) -> int:
    """Note in the audit table where a copy will be; return the id of the entry."""
    given = {name: value for name, value in asdict(options).items() if value}
    with file.write() as db:
        audit(db, "export", path=str(target), format=form, **given)
        return int(scalar(db, "SELECT max(id) FROM audit"))


def _publish(
    file: SQLiteFile, partial: Path, target: Path, people: set[str], *, note: int, replace: bool
) -> None:
    """Name a finished file inside a write: meanwhile nobody can be forgotten."""
    with file.write() as db:
        if db.table("audit").count_where("id >= ? AND action IN ('forget', 'sweep')", [note]):
            raise ConflictError(
                f"conversations were deleted while {target} was being written; export again."
            )
        if target.exists() and not replace:
            raise _in_the_way(target)
        note_people(db, str(target), map(rater_hash, people))
        partial.replace(target)


def _in_the_way(target: Path) -> ConflictError:
    return ConflictError(f"{target} exists; choose another name, or say that it may be replaced.")
