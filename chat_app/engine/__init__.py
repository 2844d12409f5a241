"""The engine turns a prompt into a reply, piece by piece.

`Engine` is the interface that the service uses; `local.py` implements it in this process. An engine
stores nothing.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prometheus_client.registry import Collector

from feedback_store.errors import say
from feedback_store.records import PromptMessage
from rlhf_core.records import FinishReason, Sampling

FAILED = say("the engine failed on this reply; try again")  # what each engine says; its log has why

__all__ = ["Engine", "FinishReason", "GenerationRequest", "Piece", "Sampling"]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One reply to generate; the same request always gives the same reply.

    A reply is cut off where the model's context ends, whatever length the sampling allows.
    """

    prompt: Sequence[PromptMessage]
    adapter: str
    sampling: Sampling
    seed: int
    system_prompt: str | None = None  # its name, for the reply's row; the engine knows the text
    source: str = ""  # on whose account it is taken: while others ask, a source gets its share
    stop: tuple[str, ...] = ()  # the reply ends before the first of these texts
    begun: str = ""  # how the reply begins, which is there; only what comes after it is generated


@dataclass(frozen=True, slots=True)
class Piece:
    """New text of a reply, and its tokens up to here; the last piece has the finish reason."""

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    new_tokens: int = 0


class Engine(Protocol):
    """Streams replies and holds adapters."""

    @property
    def measures(self) -> Collector:
        """The times, tokens and ends of its replies, for `/metrics`."""
        ...

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply; closing the iterator early frees the row.

        Raises:
            BusyError: The queue is full.
            InvalidRequestError: The prompt does not fit the model, its chat template refuses it, or
                the adapter is not loaded.
        """
        ...

    async def check(self, request: GenerationRequest) -> None:
        """Raise the `InvalidRequestError` that `stream` would raise; generates nothing."""
        ...

    async def load(self, adapter: str, path: Path) -> None:
        """Verify and load one more adapter; replies in flight do not change."""
        ...

    @property
    def doubting(self) -> bool:
        """Whether `load_doubts` has loaded something that `doubts` can ask."""
        ...

    async def load_doubts(self, path: Path) -> None:
        """Verify a reward model and have it say from now on which replies it is uncertain about."""
        ...

    def drop_doubts(self) -> None:
        """Know nothing of replies any more."""
        ...

    async def doubts(
        self, prompt: Sequence[PromptMessage], replies: Sequence[str]
    ) -> Mapping[tuple[int, int], float]:
        """How uncertain it is which reply people prefer, by the places of each pair.

        Pairs that nearly agree are missing. Nothing is known, so it is empty, before `load_doubts`
        and where a prompt like this one was judged already.
        """
        ...

    async def unload(self, adapter: str) -> None:
        """Drop an adapter as soon as no reply uses it."""
        ...

    def health(self) -> dict[str, Any]:
        """Facts for `/readyz` and `/metrics`: alive, base, adapters, rows, waiting, tokens made."""
        ...

    def close(self) -> None:
        """Stop decoding; replies in flight end as cancelled."""
        ...
