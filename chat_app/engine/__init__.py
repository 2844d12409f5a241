"""The engine: what turns a prompt into a reply, piece by piece.

`Engine` is all that the service knows of it; `local.py` is the one that runs in this process.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from feedback_store.records import PromptMessage

__all__ = ["Engine", "FinishReason", "GenerationRequest", "Piece", "Sampling"]

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one reply is drawn."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One reply to make: the same request always makes the same reply."""

    prompt: Sequence[PromptMessage]
    adapter: str
    sampling: Sampling
    seed: int


@dataclass(frozen=True, slots=True)
class Piece:
    """New text of a reply; the last piece says why it ended and what it cost."""

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    new_tokens: int = 0


class Engine(Protocol):
    """Streams replies and holds adapters."""

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply; closing the iterator early frees the row.

        Raises:
            BusyError: The queue is full.
            InvalidRequestError: The prompt does not fit the model, or the adapter is not loaded.
        """
        ...

    async def check(self, request: GenerationRequest) -> None:
        """Raise the `InvalidRequestError` of `stream`, if there would be one; makes nothing."""
        ...

    async def load(self, adapter: str, path: Path) -> None:
        """Verify and load an adapter beside the others, without disturbing replies in flight."""
        ...

    async def unload(self, adapter: str) -> None:
        """Drop an adapter as soon as no reply uses it."""
        ...

    def health(self) -> dict[str, Any]:
        """Facts for `/readyz` and `/metrics`: alive, adapters, rows, waiting, tokens made."""
        ...

    def close(self) -> None:
        """Stop decoding; replies in flight end as cancelled."""
        ...
