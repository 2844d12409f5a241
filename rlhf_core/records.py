"""The plain records that training takes: what a caller of the library has to build.

They carry text, never token ids, and know nothing of where they came from; `cycle/snapshot.py`
fills them from the store, a library user from anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    """Two responses to one prompt and which of them a rater preferred.

    Attributes:
        prompt: What both respond to.
        response_a: One response.
        response_b: The other.
        label: The better one, or "tie".
        weight: How much it counts. Of comparisons with the same group the mean does.
        strength: How much better the rater found it; 0 or more, on any scale.
        group: What the pairs of one opinion share: all pairs of one ranking, or of the thumbs of
            one rater on one prompt. They train together, and count as one opinion.
        raters: Who judged A and who judged B, each by itself, if not the same person did: their
            habits do not cancel. Only told apart in training, never kept.
        could_tie: Whether the rater could have called it a tie; false for what follows from
            thumbs, edits and retries.
    """

    prompt: Prompt
    response_a: str
    response_b: str
    label: Literal["a", "b", "tie"]
    weight: float = 1.0
    strength: float | None = None
    group: str | None = None
    raters: tuple[str, str] | None = None
    could_tie: bool = True

    def __post_init__(self) -> None:
        if self.label == "tie" and not self.could_tie:
            raise ValueError("a comparison that could not tie cannot be one; set could_tie")

    def swap(self) -> "Comparison":
        """The same judgement with the sides exchanged."""
        label: Literal["a", "b", "tie"] = (
            "tie" if self.label == "tie" else "b" if self.label == "a" else "a"
        )
        return replace(
            self,
            response_a=self.response_b,
            response_b=self.response_a,
            label=label,
            raters=self.raters and (self.raters[1], self.raters[0]),
        )


@dataclass(frozen=True, slots=True)
class Unpaired:
    """One response that a rater found good or bad by itself."""

    prompt: Prompt
    response: str
    good: bool
    rater: str  # tells raters apart in training; never kept
    weight: float = 1.0
