"""What a page does with `Talk`: it sends, follows the reply to its end, and keeps what it shows."""

import asyncio
from dataclasses import dataclass

from chat_app.handlers.talk import Talk, Told
from chat_app.handlers.views import ChatView

ANN, BOB = "browser-ann", "browser-bob"


@dataclass(frozen=True)
class Heard:
    """All that a page was told of one reply."""

    pieces: list[Told]

    @property
    def texts(self) -> dict[str, str]:
        """What was written, by label."""
        texts: dict[str, str] = {}
        for piece in self.pieces:
            for label, text in (piece.added or {}).items():
                texts[label] = texts.get(label, "") + text
        return texts

    @property
    def problem(self) -> str:
        """What went wrong; only the last piece may say that."""
        assert not any(piece.problem or piece.view for piece in self.pieces[:-1])
        return self.pieces[-1].problem

    @property
    def view(self) -> ChatView:
        """The conversation after the reply."""
        view = self.pieces[-1].view
        assert view is not None
        return view


def last_id(view: ChatView) -> str | None:
    """The last message that is stored; the next one goes below it."""
    return next((message.id for message in reversed(view.messages) if message.id), None)


async def ask(
    talk: Talk, text: str, after: ChatView | None = None, *, rater: str = ANN
) -> ChatView:
    """Send a message below what is shown."""
    shown = after or ChatView()
    return await talk.send(rater, text, below=last_id(shown), newest=shown.newest)


async def hear(talk: Talk, asked: ChatView, *, rater: str = ANN) -> Heard:
    """Follow the reply that is being written."""
    assert asked.writing is not None
    return Heard([piece async for piece in talk.follow(rater, asked.writing)])


def exchange(
    talk: Talk, text: str, after: ChatView | None = None, *, rater: str = ANN
) -> tuple[ChatView, Heard]:
    """Send a message and hear its reply: the view before it, and all that was told."""

    async def scenario() -> tuple[ChatView, Heard]:
        asked = await ask(talk, text, after, rater=rater)
        return asked, await hear(talk, asked, rater=rater)

    return asyncio.run(scenario())


def say(talk: Talk, text: str, after: ChatView | None = None, *, rater: str = ANN) -> ChatView:
    """Send a message and wait for its reply; returns the conversation after it."""
    heard = exchange(talk, text, after, rater=rater)[1]
    assert not heard.problem
    return heard.view


def again(talk: Talk, message_id: str | None, *, rater: str = ANN) -> ChatView:
    """Have a reply written anew; returns the conversation after it."""

    async def scenario() -> Heard:
        return await hear(talk, await talk.again(rater, str(message_id)), rater=rater)

    return asyncio.run(scenario()).view


def edit(talk: Talk, message_id: str, text: str) -> ChatView:
    """Change a message and wait for its reply; returns the conversation after it."""

    async def scenario() -> Heard:
        return await hear(talk, await talk.edit(ANN, message_id, text))

    return asyncio.run(scenario()).view


def side_by_side(talk: Talk) -> ChatView:
    """Talk until two replies wait for a choice."""
    view = say(talk, "one")
    for text in ("two", "three"):
        view = say(talk, text, view)
    assert view.pair is not None
    return view


def questions(view: ChatView) -> list[str]:
    """What the person said, in order."""
    return [message.content for message in view.messages if message.role == "user"]


def opened(talk: Talk, view: ChatView, **where: str) -> ChatView:
    """The conversation as a page finds it that opens it now."""
    return talk.open(ANN, str(view.conversation_id), **where)
