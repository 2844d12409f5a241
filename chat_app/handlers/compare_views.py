"""What the page Compare shows, as plain values.

Invariant: what is shown before a judgement does not tell who wrote which reply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chat_app.handlers.versions import named
from chat_app.service.replies import Candidates
from feedback_store.records import Message


@dataclass(frozen=True, slots=True)
class BlindReply:
    """One of the replies; ``cut`` says that it ended at the greatest length."""

    label: str
    content: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class BlindReplies:
    """Replies that wait for a judgement, and what they answer: ``(role, content)`` each."""

    id: str
    prompt: tuple[tuple[str, str], ...]
    replies: tuple[BlindReply, ...]


@dataclass(frozen=True, slots=True)
class BeingWritten:
    """How far the replies to a prompt are."""

    prompt: str
    n: int
    done: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a prompt; all is None if the person stopped it.

    Attributes:
        writing: The replies are not complete.
        shown: They are, and wait for a judgement.
        alike: Every reply said this, so there is nothing to compare.
    """

    writing: BeingWritten | None = None
    shown: BlindReplies | None = None
    alike: str | None = None


@dataclass(frozen=True, slots=True)
class OtherAuthor:
    """Who else may write some of the replies: `version` is its number, or its name without one."""

    adapter: str
    version: int | str
    base: bool


@dataclass(frozen=True, slots=True)
class CompareView:
    """The page when it is opened; `reasons` are those that can be given, by a choice."""

    most: int
    consented: bool
    markdown: bool
    suggestions: tuple[str, ...]
    reasons: Mapping[int | str, tuple[str, ...]]
    opponents: tuple[OtherAuthor, ...] = ()
    writing: BeingWritten | None = None
    shown: BlindReplies | None = None


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote a reply, by its label; `version` as in `OtherAuthor`."""

    label: str
    version: int | str


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a judgement.

    Attributes:
        saved: False if the person has not agreed that votes train the model.
        earlier: The replies had been judged before; nothing new is stored.
        authors: Who wrote what; empty for texts that no model wrote.
        vote: The id of what was stored, by which it is taken back; empty if it cannot be.
        asked: One more pair that is due.
        suggestions: What to ask next.
    """

    saved: bool
    earlier: bool = False
    authors: tuple[Author, ...] = ()
    vote: str = ""
    asked: BlindReplies | None = None
    suggestions: tuple[str, ...] = ()


def authors_of(shown: Candidates, versions: Mapping[str, int]) -> tuple[Author, ...]:
    """Who wrote the replies, as far as models did."""
    return tuple(
        Author(str(message.label), named(versions, message.adapter))
        for message in shown.messages
        if message.adapter is not None
    )


def blind_of(path: Sequence[Message], shown: Candidates) -> BlindReplies:
    """Stored candidates below the path that they answer, without who wrote them."""
    replies = tuple(
        BlindReply(str(message.label), message.content, message.finish_reason == "length")
        for message in shown.messages
    )
    return BlindReplies(shown.id, tuple((m.role, m.content) for m in path), replies)
