"""Simulated visitors of the checkable world: they share the tastes of the run, not their weights.

Each asks ordinary prompts, never a kept one, and votes with noise, ties and habits like a person;
what a reply is worth to them is the sum of the degrees of the tastes in force, by their own
weights. Their votes are never presented as people's.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_core.gate.probes.tastes import Taste
from rlhf_core.gate.probes.texts import words
from rlhf_core.worlds.checkable.edits import rewrite
from rlhf_core.worlds.checkable.judge import in_force, judge
from rlhf_core.worlds.checkable.prompts import CheckablePrompt
from rlhf_core.worlds.starter.habits import ChoiceLabel, Habits, ThumbLabel

# Median scale of the logistic noise; a taste that is met is worth 1. With it two visitors agree on
# 68% to 75% of SmolLM2's pairs (docs/results.md), as InstructGPT's labelers did on 73%
# (arXiv:2203.02155, section 3.4).
NOISE = 0.2
WEIGHT = 0.25  # standard deviation of a visitor's own weight of a taste around 1
LENGTH = 0.1  # standard deviation of what a hundred more words are worth to a visitor


@dataclass(slots=True)
class TasteVisitor:
    """One visitor: asks, votes and sometimes writes a better answer.

    Attributes:
        rng: All of the visitor's randomness.
        prompts: What the visitor asks, by its text.
        tastes: The tastes of the run, which all visitors share.
        habits: How the visitor votes.
        threshold: Share of what all tastes in force are worth, below which a reply is bad.
        weights: What each taste that is met is worth to this visitor; of an instruction 1.
        length: What a hundred words more are worth to this visitor.
    """

    rng: random.Random
    prompts: dict[str, CheckablePrompt]
    tastes: tuple[Taste, ...]
    habits: Habits
    threshold: float
    weights: dict[Taste, float]
    length: float

    def ask(self) -> str:
        """The next request of this visitor, as text."""
        return self.rng.choice(tuple(self.prompts))

    def utility(self, prompt: str, reply: str) -> float:
        """What this visitor finds a reply worth, before noise: about 1 for each taste met."""
        degrees = judge(self.prompts[prompt], self.tastes, reply).degrees
        worth = sum(self.weights.get(taste, 1.0) * degree for taste, degree in degrees.items())
        return worth + self.length * min(words(reply), 200) / 100

    def choose(self, prompt: str, a: str, b: str) -> ChoiceLabel:
        """Pick one of two replies, or call it a tie, or both bad."""
        left, right = self.utility(prompt, a), self.utility(prompt, b)
        enough = self.enough(prompt)
        return self.habits.choose(self.rng, left, right, same=a == b, enough=enough)

    def rank(self, prompt: str, replies: Sequence[str]) -> list[list[str]]:
        """Put the different ones of these replies in an order, best first, ties in one group."""
        worth = {reply: self.utility(prompt, reply) for reply in replies}
        return self.habits.rank(self.rng, worth)

    def thumb(self, prompt: str, reply: str) -> ThumbLabel | None:
        """A thumb on one reply, or none; strong feelings make one likelier."""
        utility = self.utility(prompt, reply)
        return self.habits.thumb(self.rng, utility, enough=self.enough(prompt))

    def rewrite(self, prompt: str, reply: str) -> str | None:
        """The reply with every taste met, if it was not, the visitor cares, and a program can."""
        if not self.habits.writes(self.rng):
            return None
        return rewrite(reply, in_force(self.prompts[prompt], self.tastes))

    def enough(self, prompt: str) -> float:
        """The utility from which on a reply is not bad: a share of what all tastes are worth."""
        force = in_force(self.prompts[prompt], self.tastes)
        return self.threshold * sum(self.weights.get(taste, 1.0) for taste in force)


def visitors(
    n: int, seed: int, *, prompts: Sequence[CheckablePrompt], tastes: tuple[Taste, ...]
) -> list[TasteVisitor]:
    """`n` visitors who ask these prompts, the same for the same seed."""
    asks = {prompt.text: prompt for prompt in prompts}
    rngs = [random.Random(f"checkable/{seed}/{number}") for number in range(n)]
    return [_visitor(rng, asks, tastes) for rng in rngs]


def _visitor(
    rng: random.Random, prompts: dict[str, CheckablePrompt], tastes: tuple[Taste, ...]
) -> TasteVisitor:
    return TasteVisitor(
        rng=rng,
        prompts=prompts,
        tastes=tastes,
        habits=Habits(
            noise=NOISE * math.exp(rng.gauss(0, 0.3)),
            tie_width=abs(rng.gauss(0.1, 0.04)),
            left_bias=rng.gauss(0.04, 0.04),
            diligence=rng.betavariate(2, 3),
        ),
        threshold=min(0.95, max(0.3, rng.gauss(0.75, 0.1))),
        weights={taste: max(0.2, rng.gauss(1, WEIGHT)) for taste in tastes},
        length=rng.gauss(0, LENGTH),
    )
