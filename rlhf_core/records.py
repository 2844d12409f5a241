"""The plain records that training and decoding take.

They hold text, never token ids. `cycle/snapshot.py` makes those of training from the store; a user
of the library makes them from anything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict, get_args

from rlhf_core.errors import InvalidInputError

Label = Literal["a", "b", "tie"]
FinishReason = Literal["stop", "length", "cancelled", "error"]  # why a reply ended


class ChatMessage(TypedDict):
    """One message of a conversation."""

    role: str
    content: str


Prompt = Sequence[ChatMessage]


def require_prompt(prompt: Prompt) -> Prompt:
    """The prompt itself.

    Raises:
        InvalidInputError: It is not a list of one message or more, each with a role and content.
    """
    listed = isinstance(prompt, Sequence) and not isinstance(prompt, str)
    if not listed or not prompt or not all(map(_is_message, prompt)):
        raise InvalidInputError(
            f"a prompt cannot be {str(prompt)[:60]!r}; "
            'use messages such as [{"role": "user", "content": "Hello"}]'
        )
    return prompt


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )


def _require_weight(weight: float) -> None:
    if not (math.isfinite(weight) and weight >= 0):
        raise InvalidInputError(f"a weight cannot be {weight!r}; use a number of 0 or more")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A response that a person wrote, to be imitated."""

    prompt: Prompt
    response: str

    def __post_init__(self) -> None:
        require_prompt(self.prompt)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one prompt and which of them a rater preferred.

    Attributes:
        prompt: What both respond to.
        response_a: One response.
        response_b: The other.
        label: The better one, or "tie".
        weight: How much it counts. Comparisons of one group count with their mean weight.
        strength: How much better the rater found it; 0 or more, on any scale.
        group: The same text for all pairs of one opinion: of one ranking, or of one rater's thumbs
            on one prompt. They train together, and count as one opinion.
        raters: Who voted on A and who voted on B, if these were two people, whose habits do not
            cancel. Training tells raters apart, and the reward model does not keep them.
        could_tie: Whether the rater could have called it a tie; false for comparisons from thumbs,
            edits and retries.
        versions: Which policies wrote A and B, if that is known; training does not read it.
        age: How many newer opinions there are, all pairs of a group being one. It says how much
            this one counts if tastes have changed (`reward/forgetting.py`).
    """

    prompt: Prompt
    response_a: str
    response_b: str
    label: Label
    weight: float = 1.0
    strength: float | None = None
    group: str | None = None
    raters: tuple[str, str] | None = None
    could_tie: bool = True
    versions: tuple[str, str] | None = None
    age: int = 0

    def __post_init__(self) -> None:
        require_prompt(self.prompt)
        _require_weight(self.weight)
        if self.label not in get_args(Label):
            raise InvalidInputError(f"a label cannot be {self.label!r}; use 'a', 'b' or 'tie'")
        if self.label == "tie" and not self.could_tie:
            raise InvalidInputError(
                "a comparison that could not tie has the label 'tie'; set could_tie"
            )

    def swap(self) -> "Comparison":
        """The same comparison with its sides exchanged."""
        label: Label = "tie" if self.label == "tie" else "b" if self.label == "a" else "a"
        return replace(
            self,
            response_a=self.response_b,
            response_b=self.response_a,
            label=label,
            raters=self.raters and (self.raters[1], self.raters[0]),
            versions=self.versions and (self.versions[1], self.versions[0]),
        )


@dataclass(frozen=True, slots=True)
class Unpaired:
    """One response that a rater called good or bad by itself."""

    prompt: Prompt
    response: str
    good: bool
    rater: str  # tells raters apart in training; the reward model does not keep it
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_prompt(self.prompt)
        _require_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one reply is sampled.

    Attributes:
        temperature: Logits are divided by it; 0 takes the likeliest token each time.
        top_p: Only the likeliest tokens that together reach this probability are sampled from.
        max_new_tokens: The reply is cut here.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64
