"""A reply that another server decodes: its tokens arrive, and their text goes to the reader."""

import asyncio
import time

from chat_app.engine import FinishReason, Piece
from chat_app.engine.reply_text import ReplyText
from chat_app.engine.waiting import Ticket
from rlhf_core.model.loading import Outline
from rlhf_core.training.vllm.replica import Decoded


class RemoteReply:
    """A ticket whose reply is being decoded.

    Args:
        ticket: Gets the pieces.
        outline: Makes text of tokens, and knows which of them end a reply.
        interval: Seconds between two pieces; the first and the last wait for nothing.

    Attributes:
        ids: Its tokens so far, without an end token.
        ended: Whether its last piece was sent.
        task: Decodes it.
    """

    def __init__(self, ticket: Ticket, outline: Outline, *, interval: float) -> None:
        self.ticket, self.ids, self.ended = ticket, list[int](), False
        self.task: asyncio.Task[None] | None = None
        self._text = ReplyText(outline.chat.decode_reply, stop=ticket.request.stop)
        self._ends, self._interval, self._next_update = outline.ends, interval, 0.0

    def take(self, decoded: Decoded) -> None:
        """Add tokens, and send the new text if it is time."""
        self.ids += [token for token in decoded.ids if token not in self._ends]
        now = time.monotonic()
        if self._text.stops(self.ids):
            self.end("stop")
        elif decoded.finish_reason is not None:
            self.end("stop" if decoded.finish_reason == "stop" else "length")
        elif now >= self._next_update and (text := self._text.take(self.ids)):
            self._next_update = now + self._interval
            self._send(text, None)

    def end(self, reason: FinishReason) -> None:
        """Send all the rest of the text; nothing, if that was done before."""
        if not self.ended:
            self.ended = True
            self._send(self._text.take(self.ids, final=True), reason)

    def give_up(self, reason: Exception) -> None:
        """Send the text so far, then the error."""
        if rest := self._text.take(self.ids, final=True):
            self._send(rest, None)
        self.ticket.send(reason)

    def _send(self, text: str, reason: FinishReason | None) -> None:
        self.ticket.send(Piece(text, reason, len(self.ticket.ids or ()), len(self.ids)))
