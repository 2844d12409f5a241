"""What is measured of every reply, by each kind of engine in the same way, for `/metrics`.

A `Ticket` tells when it gets a row, each of its pieces, and its end; nobody else writes here. A
piece costs a few microseconds. No label says who asked or what.
"""

from collections.abc import Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from chat_app.engine import Piece

# Upper ends of the classes, in seconds. Each is about twice the one before, so a quantile that
# Prometheus reckons is wrong by a factor of two at most. Waits begin at a small model's first token
# on an idle machine and end at a minute, by which people have left; the alert's 5 s is an end.
# Tokens begin at the starter's in a batch and end at a large model's on a CPU.
WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
ENDS = ("stop", "length", "cancelled", "error")


class Measures(Collector):
    """The times, tokens and ends of the replies of one engine; safe to share between threads."""

    def __init__(self) -> None:
        self.queue = Histogram(
            "feedback_chat_queue_seconds",
            "from a request to its row in the batch",
            buckets=WAITS,
            registry=None,
        )
        self.first_token = Histogram(
            "feedback_chat_first_token_seconds",
            "from a request to its first text",
            buckets=WAITS,
            registry=None,
        )
        self.inter_token = Histogram(
            "feedback_chat_inter_token_seconds",
            "time for each later token, once for every piece of text that is sent",
            buckets=TOKENS,
            registry=None,
        )
        self.prompt_tokens = Counter(
            "feedback_chat_prompt_tokens", "tokens of the prompts that got a row", registry=None
        )
        self.replies = Counter(
            "feedback_chat_replies", "replies ended", ["finish_reason"], registry=None
        )
        self.refused = Counter(
            "feedback_chat_queue_full", "requests refused as too many waited", registry=None
        )
        for reason in ENDS:  # so that each is there from the start, and its rate is right
            self.replies.labels(reason)

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        yield from self.queue.collect()
        yield from self.first_token.collect()
        yield from self.inter_token.collect()
        yield from self.prompt_tokens.collect()
        yield from self.replies.collect()
        yield from self.refused.collect()


class ReplyTimes:
    """The times of one reply.

    Args:
        measures: Gets them.
        now: When it was asked for, in seconds of a monotonic clock, as all times here.
    """

    def __init__(self, measures: Measures, now: float) -> None:
        self._measures, self._asked = measures, now
        self._last, self._tokens, self._ended = now, 0, False
        self._waits = True

    def begin(self, now: float, prompt_tokens: int) -> None:
        """It has a row."""
        self._waits = False
        self._measures.queue.observe(now - self._asked)
        self._measures.prompt_tokens.inc(prompt_tokens)

    def piece(self, now: float, piece: Piece) -> None:
        """New text is sent; the last piece ends the reply."""
        new = piece.new_tokens - self._tokens
        if new > 0 and not self._tokens:
            self._measures.first_token.observe(now - self._asked)
        elif new > 0:
            self._measures.inter_token.observe((now - self._last) / new)
        if new > 0:
            self._last, self._tokens = now, piece.new_tokens
        if piece.finish_reason is not None:
            self.end(piece.finish_reason, now)

    def end(self, reason: str, now: float) -> None:
        """It has ended, perhaps before it had a row; what comes later changes nothing."""
        if not self._ended:
            self._ended = True
            if self._waits:  # else the times would be best when most people give up
                self._measures.queue.observe(now - self._asked)
            self._measures.replies.labels(reason).inc()
