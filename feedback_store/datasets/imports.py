"""Data sets of others: they become raters, conversations, candidates and choices like our own.

Invariants: all ids and keys are made from the data alone, so importing again adds nothing; a hash
decides on which side a reply was "shown", never which one was better; a malformed line is counted
and named, never guessed at, and the other lines are still imported. The raters' consent is
"dataset:NAME", their ids begin with "NAME:", and they count like everybody else.
"""

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlite_utils import Database

from feedback_store.datasets import arena, hh, oasst, ultrafeedback
from feedback_store.datasets.event_files import FORGOTTEN
from feedback_store.datasets.files import Malformed
from feedback_store.datasets.judgement import ForeignReply, Judgement, Skip, digest
from feedback_store.errors import (
    FeedbackStoreError,
    InvalidFeedbackError,
    StoreUnavailableError,
)
from feedback_store.feedback.events import store_event
from feedback_store.feedback.messages import store_message
from feedback_store.privacy.forgetting import is_forgotten
from feedback_store.raters.accounts import would_hold_out
from feedback_store.records import Prompt
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import Row, encode, first, insert, one_of

BATCH = 500  # lines in one transaction
NAMED = 20  # malformed lines that a report names
CONTRADICTION = "another judgement of the same replies is stored"
_NEW, _KNOWN = "new", "known"

_READERS = {
    "hh": hh.read,
    "oasst": oasst.read,
    "ultrafeedback": ultrafeedback.read,
    "arena": arena.read,
}
FOREIGN_FORMS = tuple(_READERS)
Line = tuple[int, Any]
Read = tuple[int, Sequence[Judgement | Skip]]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file.

    `read` counts the lines, `new` and `known` the judgements. `skipped` counts, by reason, the
    parts that are in the format but give no judgement. `malformed` names the first lines that are
    not in the format, each with the reason; `malformed_lines` counts all of them.
    """

    read: int
    new: int
    known: int
    skipped: Mapping[str, int]
    malformed: tuple[tuple[int, str], ...]
    malformed_lines: int


class Imports:
    """Foreign data sets into a store."""

    _file: SQLiteFile

    def import_documents(self, documents: Iterable[Line], form: str) -> ImportReport:
        """Take in numbered documents, as `read_documents` gives them, of one of `FOREIGN_FORMS`.

        They are stored a batch at a time.

        Raises:
            InvalidFeedbackError: There is no such format.
            StoreUnavailableError: A batch could not be stored. Those before it are stored, and
                importing again continues from there.
        """
        one_of(form, FOREIGN_FORMS, "the format of an import")
        tally = _Tally()
        lines = _read(tally.counted(documents), form, tally)
        while batch := list(islice(lines, BATCH)):
            self._take(batch, form, tally)
        return tally.report()

    def _take(self, batch: Sequence[Read], form: str, tally: "_Tally") -> None:
        """Store what lines say in one transaction; if the store refuses, one line at a time.

        Savepoints would do, but in one large transaction they cost more than everything else.
        """
        try:
            with self._file.write() as db:
                outcomes = [_outcome(db, form, part) for _, parts in batch for part in parts]
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


class _Tally:
    """Counts while an import runs."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
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
        new, known = left_out.pop(_NEW, 0), left_out.pop(_KNOWN, 0)
        return ImportReport(
            self._read,
            new,
            known,
            dict(left_out.most_common()),
            tuple(sorted(self._malformed)),
            self._malformed_lines,
        )


def _read(documents: Iterable[Line], form: str, tally: _Tally) -> Iterator[Read]:
    """What each line says; flat messages of trees come last, each tree as its first line."""
    with closing(oasst.FlatMessages()) as flat:
        for number, document in documents:
            with tally.noting(number):
                if isinstance(document, Malformed):
                    raise InvalidFeedbackError(document.reason)
                if form != "oasst" or not flat.add(number, document):
                    yield number, list(_READERS[form](document))
        for number, tree, skips in flat.trees():
            tally.outcomes.update(skip.reason for skip in skips)
            if tree is not None:
                with tally.noting(number):
                    yield number, list(oasst.read(tree))


def _outcome(db: Database, form: str, part: Judgement | Skip) -> str:
    return part.reason if isinstance(part, Skip) else _store(db, form, part)


def _store(db: Database, form: str, judgement: Judgement) -> str:
    """Store a judgement unless it is there; say whether it was, or why it cannot be."""
    rater = f"{form}:{judgement.rater}"
    conversation = f"{form}:{digest(judgement.rater, judgement.conversation)}"
    path = _path(form, conversation, judgement.prompt)
    texts = sorted(reply.content for reply in judgement.replies)
    name = f"{form}:{digest(path[-1]['id'], *texts)}"  # of the candidates and of the event
    shown, places = _shuffled(name, judgement)
    table, verdict = _verdict(places, judgement.strength)
    if first(db, "SELECT 1 FROM candidates WHERE id = ?", [name]) is not None:
        known = first(db, f"SELECT * FROM {table} WHERE id = ?", [name])
        same = known and all(known[column] == encode(verdict[column]) for column in verdict)
        return _KNOWN if same else CONTRADICTION
    if is_forgotten(db, rater):
        return FORGOTTEN
    at = judgement.created_at or utc_now()
    _ensure_rater(db, rater, form)
    owner = {"id": conversation, "rater_id": rater, "title": form}
    _ensure(db, "conversations", owner | {"created_at": at})
    for message in path:
        if first(db, "SELECT 1 FROM messages WHERE id = ?", [message["id"]]) is None:
            store_message(db, message | {"created_at": at})
    common = {"rater_id": rater, "created_at": at}
    insert(db, "candidates", {"id": name, "prompt_message_id": path[-1]["id"]} | common)
    for label, reply in zip(string.ascii_lowercase, shown, strict=False):
        row = _message(f"{name}:{label}", conversation, path[-1]["id"], "assistant", reply.content)
        about = {"candidates_id": name, "label": label, "created_at": at}
        store_message(db, row | about | {"sampling": reply.model and {"model": reply.model}})
    event = {"id": name, "candidates_id": name, "idempotency_key": name}
    store_event(db, table, event | common | verdict)
    return _NEW


def _ensure_rater(db: Database, rater: str, form: str) -> None:
    # New here, however old the data set is: `sweep` and `forget` go by when it came in.
    row = {"id": rater, "kind": "person", "consent": f"dataset:{form}", "created_at": utc_now()}
    if first(db, "SELECT 1 FROM raters WHERE id = ?", [rater]) is None:
        insert(db, "raters", row | {"held_out": would_hold_out(db, rater)})


def _ensure(db: Database, table: str, row: Row) -> None:
    if first(db, f"SELECT 1 FROM {table} WHERE id = ?", [row["id"]]) is None:
        insert(db, table, row)


def _path(form: str, conversation: str, prompt: Prompt) -> list[Row]:
    """The messages of a prompt; what conversations have in common is one branch."""
    path: list[Row] = []
    for said in prompt:
        parent = path[-1]["id"] if path else None
        name = f"{form}:{digest(conversation, parent, said['role'], said['content'])}"
        path.append(_message(name, conversation, parent, said["role"], said["content"]))
    return path


def _message(name: str, conversation: str, parent: str | None, role: str, content: str) -> Row:
    unknown = dict.fromkeys(("adapter", "sampling", "seed", "finish_reason"))
    return {
        "id": name,
        "conversation_id": conversation,
        "parent_id": parent,
        "role": role,
        "content": content,
        "candidates_id": None,
        "label": None,
    } | unknown


def _shuffled(name: str, judgement: Judgement) -> tuple[list[ForeignReply], list[int] | None]:
    """The replies from left to right, as a hash has it, and the place of each."""
    texts = [reply.content for reply in judgement.replies]
    order = sorted(range(len(texts)), key=lambda i: (digest(name, texts[i]), i))
    places = judgement.places
    return [judgement.replies[i] for i in order], (
        None if places is None else [places[i] for i in order]
    )


def _verdict(places: Sequence[int] | None, strength: float | None) -> tuple[str, Row]:
    """The table of the event, and its columns that say which reply is better."""
    if places is None or len(places) == 2:
        choice = "both_bad"
        if places is not None:
            a, b = places
            choice = "tie" if a == b else "a" if a < b else "b"
        return "choices", {"choice": choice, "strength": strength, "seconds": None}
    labels: dict[int, list[str]] = {}
    for place, label in zip(places, string.ascii_lowercase, strict=False):
        labels.setdefault(place, []).append(label)
    return "rankings", {"order": tuple(tuple(labels[place]) for place in sorted(labels))}
