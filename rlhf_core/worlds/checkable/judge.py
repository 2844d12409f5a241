"""The exact judge of the checkable world: which tastes a reply to a prompt meets.

In force are the tastes of the run and the instructions that the prompt itself carries. The judge is
to any model what the starter's is to the starter: only simulated visitors and published
measurements may ask it; whatever trains or promotes must not reach it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_core.gate.probes.tastes import Taste
from rlhf_core.worlds.checkable.prompts import CheckablePrompt


@dataclass(frozen=True, slots=True)
class TasteVerdict:
    """The degree of each taste in force, in [0, 1]; 1.0 exactly when it is met."""

    degrees: dict[Taste, float]

    @property
    def met(self) -> dict[Taste, bool]:
        """Whether each taste is met."""
        return {taste: degree == 1.0 for taste, degree in self.degrees.items()}

    @property
    def satisfied(self) -> bool:
        """Whether every taste is met."""
        return all(self.met.values())


def in_force(prompt: CheckablePrompt, tastes: Sequence[Taste]) -> tuple[Taste, ...]:
    """The tastes of the run and the prompt's own instructions, each once."""
    return tuple(dict.fromkeys((*tastes, *prompt.instructions)))


def judge(prompt: CheckablePrompt, tastes: Sequence[Taste], reply: str) -> TasteVerdict:
    """Judge one reply to one prompt."""
    return TasteVerdict({taste: taste.degree(reply) for taste in in_force(prompt, tastes)})
