"""Any table of preferences: which of its columns holds what is said in one line.

`prompt=input,a=output_1,b=output_2,label=label` names two replies and who won;
`prompt=question,chosen=good,rejected=bad` names the better one, and
`prompt=question,replies=answers,ranks=places` two lists: the replies, and the place of each, the
lowest being the best and equal ones ties. Several columns joined by "+" are
one prompt, or the labels of several raters. A label of 1, a or model_a is the first reply, one of
2, b or model_b the second, and "tie" neither. What 0 means differs between data sets, so it has to
be said: `label_tie=0`, or `label_a=1,label_b=0`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from feedback_store.datasets.foreign.judgement import (
    ForeignReply,
    Judgement,
    Part,
    Parts,
    Skip,
    checked,
    digest,
    ranks,
)
from feedback_store.datasets.foreign.turns import messages_of, two_sides
from feedback_store.datasets.foreign.values import (
    given,
    name_of,
    number,
    required,
    required_name,
    shown,
    structured,
    utc,
)
from feedback_store.errors import InvalidFeedbackError
from feedback_store.records import Prompt, PromptMessage

_FIRST, _SECOND, _EQUAL = ("1", "a", "model_a"), ("2", "b", "model_b"), ("tie",)
ALONE = "a reply with no other beside it"
_PLACES = {"label_a": (0, 1), "label_b": (1, 0), "label_tie": (0, 0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The names of a table's columns, and what its labels mean.

    `chosen` and `rejected` go together, and so do `a`, `b` and `label`, and `replies` and `ranks`.
    `prompt` and `label` may be
    several columns, joined by "+". The columns that are not named are not read.
    """

    prompt: str = ""
    chosen: str = ""
    rejected: str = ""
    a: str = ""
    b: str = ""
    label: str = ""
    label_a: str = ""
    label_b: str = ""
    label_tie: str = ""
    replies: str = ""
    ranks: str = ""
    rater: str = ""
    conversation: str = ""
    created_at: str = ""
    strength: str = ""
    model_a: str = ""
    model_b: str = ""

    def __post_init__(self) -> None:
        """Refuse what does not say which reply is better."""
        ways = (
            (self.chosen, self.rejected),
            (self.a, self.b, self.label),
            (self.replies, self.ranks),
        )
        if [all(way) for way in ways if any(way)] != [True]:
            raise InvalidFeedbackError(
                "columns have to name chosen and rejected, or a, b and label, or replies and "
                "ranks; add the others."
            )

    @property
    def sides(self) -> tuple[str, str]:
        """The columns of the two replies."""
        return (self.chosen, self.rejected) if self.chosen else (self.a, self.b)


PANDALM = Columns(
    prompt="instruction+input",
    a="response1",
    b="response2",
    label="annotator1+annotator2+annotator3",
    label_tie="0",
    conversation="idx",
)


def columns_of(mapping: str) -> Columns:
    """The columns that a text such as `prompt=q,chosen=x,rejected=y` names.

    Raises:
        InvalidFeedbackError: It is no such text, or names too little.
    """
    known = [field.name for field in fields(Columns)]
    named: dict[str, str] = {}
    for part in mapping.split(","):
        role, _, column = (piece.strip() for piece in part.partition("="))
        if role not in known or not column or role in named:
            raise InvalidFeedbackError(
                f"columns cannot have {part.strip()!r}; give ROLE=COLUMN once for each role, the "
                f"roles being {', '.join(known)}."
            )
        named[role] = column
    return Columns(**named)


def read(document: Any, columns: Columns) -> Parts:
    """The judgements in one row: one for each column of labels, or one ranking."""
    if columns.ranks:
        return [_ranked(document, columns)]
    sides = [messages_of(document, name, speaker="assistant") for name in columns.sides]
    said = two_sides(_prompt(document, columns), *sides)
    if isinstance(said, Skip):
        return [said]
    models = [
        name_of(document, name) if name else None for name in (columns.model_a, columns.model_b)
    ]
    replies = tuple(map(ForeignReply, said.replies, models))
    opening = digest(*(message["content"] for message in said.prompt))
    strength = abs(number(document, columns.strength) or 0.0) if columns.strength else 0.0
    at = utc(given(document, columns.created_at)) if columns.created_at else None
    place = name_of(document, columns.conversation) if columns.conversation else None
    return [
        checked(
            Judgement(rater or opening, place or opening, said.prompt, replies, places,
                      strength if strength and places[0] != places[1] else None, at)
        )
        for rater, places in _verdicts(document, columns)
    ]  # fmt: skip


def _ranked(document: Any, columns: Columns) -> Part:
    """The ranking in one row, of two replies or more."""
    texts, places = (_list(document, name) for name in (columns.replies, columns.ranks))
    whole = all(isinstance(place, int) and not isinstance(place, bool) for place in places)
    if not whole or not all(isinstance(one, str) for one in texts) or len(texts) != len(places):
        raise InvalidFeedbackError(
            f"{columns.replies!r} and {columns.ranks!r} have to be lists of one length: texts, and "
            f"whole numbers; here they are {shown(texts)} and {shown(places)}"
        )
    if len(texts) < 2:
        return Skip(ALONE)
    prompt = _prompt(document, columns)
    opening = digest(*(message["content"] for message in prompt))
    rater = name_of(document, columns.rater) if columns.rater else None
    place = name_of(document, columns.conversation) if columns.conversation else None
    at = utc(given(document, columns.created_at)) if columns.created_at else None
    replies = tuple(map(ForeignReply, texts))
    order = ranks(places)
    return checked(
        Judgement(rater or opening, place or opening, prompt, replies, order, created_at=at)
    )


def _list(document: Any, name: str) -> list[Any]:
    """A list, or a text that is one as JSON."""
    found = structured(required(document, name, list, str))
    if not isinstance(found, list):
        raise InvalidFeedbackError(f"{name!r} cannot be {shown(found)}; it has to be a list")
    return found


def _prompt(document: Any, columns: Columns) -> Prompt:
    """The messages of the columns of the prompt; texts of several are one message."""
    names = columns.prompt.split("+") if columns.prompt else []
    parts = [
        messages_of(document, name, speaker="user") for name in names if _is_said(document, name)
    ]
    if len(parts) < 2:
        return parts[0] if parts else ()
    texts = [message["content"] for part in parts for message in part]
    return (PromptMessage(role="user", content="\n\n".join(texts)),)


def _is_said(document: Any, name: str) -> bool:
    required(document, name, object)
    return given(document, name) is not None


def _verdicts(document: Any, columns: Columns) -> Iterator[tuple[str | None, tuple[int, int]]]:
    """Who judged, as far as the row says, and the places of the two replies."""
    rater = name_of(document, columns.rater) if columns.rater else None
    if not columns.label:
        yield rater, (0, 1)
        return
    labels = columns.label.split("+")
    for name in labels:
        who = rater if len(labels) == 1 else "-".join(filter(None, (rater, name)))
        yield who, _places(document, name, columns)


def _places(document: Any, name: str, columns: Columns) -> tuple[int, int]:
    label = required_name(document, name).strip()
    meanings = {
        "label_a": (columns.label_a,) if columns.label_a else _FIRST,
        "label_b": (columns.label_b,) if columns.label_b else _SECOND,
        "label_tie": (columns.label_tie,) if columns.label_tie else _EQUAL,
    }
    for role, values in meanings.items():
        if label.casefold() in (value.casefold() for value in values):
            return _PLACES[role]
    raise InvalidFeedbackError(
        f"{name!r} cannot be {shown(document[name])}; say what it means by label_a, label_b or "
        "label_tie"
    )
