"""Data sets of others: they become raters, conversations, candidates and choices like our own.

Invariants: importing again adds nothing; a malformed line is counted and named, never guessed at,
and the other lines are still imported; whatever is read is stored, left out with a reason, or
malformed. The raters' consent is "dataset:NAME", their ids begin with "NAME:", and they count like
everybody else.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from feedback_store.datasets.files import Malformed
from feedback_store.datasets.foreign import arena, columns, hh, oasst, open_webui, ultrafeedback
from feedback_store.datasets.foreign.judgement import Note, Part, Parts, Skip
from feedback_store.datasets.judged import KNOWN, NEW, store
from feedback_store.errors import (
    FeedbackStoreError,
    InvalidFeedbackError,
    StoreUnavailableError,
)
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import one_of

BATCH = 500  # lines in one transaction
NAMED = 20  # malformed lines that a report names
TABLE = "table"

_READERS: dict[str, Callable[[Any], Parts]] = {
    "hh": hh.read,
    "oasst": oasst.read,
    "ultrafeedback": ultrafeedback.read,
    "arena": arena.read,
    "pandalm": partial(columns.read, columns=columns.PANDALM),
    "open-webui": open_webui.read,
}
FOREIGN_FORMS = (*_READERS, TABLE)
Line = tuple[int, Any]
Read = tuple[int, Sequence[Part]]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file.

    `read` counts the lines, `new` and `known` the judgements. `skipped` counts, by reason, the
    parts that are in the format but give no judgement. `malformed` names the first lines that are
    not in the format, each with the reason; `malformed_lines` counts all of them. `noted` counts
    what the file does not say about something that was taken, such as whether it was refused.
    """

    read: int
    new: int
    known: int
    skipped: Mapping[str, int]
    malformed: tuple[tuple[int, str], ...]
    malformed_lines: int
    noted: Mapping[str, int] = field(default_factory=dict)


class Imports:
    """Foreign data sets into a store."""

    _file: SQLiteFile

    def import_documents(
        self,
        documents: Iterable[Line],
        form: str,
        mapping: str | None = None,
        name: str | None = None,
    ) -> ImportReport:
        """Take in numbered documents, as `read_documents` gives them, of one of `FOREIGN_FORMS`.

        They are stored a batch at a time.

        Args:
            documents: The rows of a file.
            form: What they are.
            mapping: Which columns mean what, for "table" alone; see `foreign/columns.py`.
            name: What the ids of raters begin with, and what their consent names; the format's
                name if it is not given.

        Raises:
            InvalidFeedbackError: There is no such format, or the mapping or the name is none.
            StoreUnavailableError: A batch could not be stored. Those before it are stored, and
                importing again continues from there.
        """
        one_of(form, FOREIGN_FORMS, "the format of an import")
        reader, prefix, tally = _reader(form, mapping), _prefix(name, form), _Tally()
        lines = _read(tally.counted(documents), form, reader, tally)
        while batch := list(islice(lines, BATCH)):
            self._take(batch, prefix, tally)
        return tally.report()

    def _take(self, batch: Sequence[Read], form: str, tally: "_Tally") -> None:
        """Store what lines say in one transaction; if the store refuses, one line at a time.

        Savepoints would do, but in one large transaction they cost more than everything else.
        """
        try:
            with self._file.write() as db:
                parts = [part for _, said in batch for part in said]
                outcomes = [
                    part.reason if isinstance(part, Skip) else store(db, form, part)
                    for part in parts
                    if not isinstance(part, Note)
                ]
        except StoreUnavailableError:
            raise
        except FeedbackStoreError as exc:
            if len(batch) > 1:
                for line in batch:
                    self._take([line], form, tally)
            else:
                tally.malformed(batch[0][0], str(exc))
        else:
            tally.outcomes.update(outcomes)
            tally.noted.update(part.reason for part in parts if isinstance(part, Note))


class _Tally:
    """Counts while an import runs."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        self._read = 0
        self._malformed: list[tuple[int, str]] = []
        self._malformed_lines = 0

    def counted(self, documents: Iterable[Line]) -> Iterator[Line]:
        for line in documents:
            self._read += 1
            yield line

    def malformed(self, number: int, reason: str) -> None:
        self._malformed_lines += 1
        self._malformed.append((number, reason))
        if len(self._malformed) > NAMED:  # the first of the file, in whatever order they come
            self._malformed.remove(max(self._malformed))

    @contextmanager
    def noting(self, number: int) -> Iterator[None]:
        """Count a malformed line instead of raising."""
        try:
            yield
        except UnicodeEncodeError as exc:
            self.malformed(number, f"text with an unpaired surrogate at position {exc.start}")
        except InvalidFeedbackError as exc:
            self.malformed(number, str(exc))

    def report(self) -> ImportReport:
        """What became of the file so far."""
        left_out = Counter(self.outcomes)
        new, known = left_out.pop(NEW, 0), left_out.pop(KNOWN, 0)
        return ImportReport(
            self._read,
            new,
            known,
            dict(left_out.most_common()),
            tuple(sorted(self._malformed)),
            self._malformed_lines,
            dict(self.noted.most_common()),
        )


def _reader(form: str, mapping: str | None) -> Callable[[Any], Parts]:
    if (form == TABLE) != (mapping is not None):
        raise InvalidFeedbackError(
            f"columns go with the format {TABLE!r}, and it needs them; the others have their own."
        )
    if mapping is None:
        return _READERS[form]
    return partial(columns.read, columns=columns.columns_of(mapping))


def _prefix(name: str | None, form: str) -> str:
    if name is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", name):
        raise InvalidFeedbackError(
            f"the name of a data set cannot be {name!r}; use up to 40 letters, digits and . _ -"
        )
    return name or form


def _read(
    documents: Iterable[Line], form: str, reader: Callable[[Any], Parts], tally: _Tally
) -> Iterator[Read]:
    """What each line says; flat messages of trees come last, each tree as its first line."""
    with closing(oasst.FlatMessages()) as flat:
        for number, document in documents:
            with tally.noting(number):
                if isinstance(document, Malformed):
                    raise InvalidFeedbackError(document.reason)
                if form != "oasst" or not flat.add(number, document):
                    yield number, list(reader(document))
        for number, tree, skips in flat.trees():
            tally.outcomes.update(skip.reason for skip in skips)
            if tree is not None:
                with tally.noting(number):
                    yield number, list(oasst.read(tree))
