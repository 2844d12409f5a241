"""The plain records that training takes: what a caller of the library has to build.

They carry text, never token ids, and know nothing of where they came from; `cycle.py` fills them
from the store, a library user from anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict


class ChatMessage(TypedDict):
    """One message of a conversation."""

    role: str
    content: str


Prompt = Sequence[ChatMessage]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A response that a person wrote, to be imitated."""

    prompt: Prompt
    response: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one prompt and which of them a rater preferred."""

    prompt: Prompt
    response_a: str
    response_b: str
    label: Literal["a", "b", "tie"]
    weight: float = 1.0

    def swap(self) -> "Comparison":
        """The same judgement with the sides exchanged."""
        label = {"a": "b", "b": "a", "tie": "tie"}[self.label]
        return Comparison(self.prompt, self.response_b, self.response_a, label, self.weight)  # type: ignore[arg-type]
