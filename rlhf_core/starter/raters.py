"""Simulated visitors: the exact judge, with known tastes, noise, ties and habits.

They vote where no people are at hand; their votes are never presented as people's. A visitor asks
only about training subjects in common wordings, so that test questions stay unseen.
"""

import math
import random
from dataclasses import dataclass, field
from typing import Literal

from rlhf_core.starter.facts import facts
from rlhf_core.starter.judge import judge
from rlhf_core.starter.world import Request, kind_reply, sample_request

ChoiceLabel = Literal["a", "b", "tie", "both_bad"]
ThumbLabel = Literal["up", "down"]

NOISE = 0.45  # median scale of the logistic noise on a difference of utilities
TASTE = 0.35  # standard deviation of a visitor's own weights around the gold ones


@dataclass(slots=True)
class Visitor:
    """One visitor: asks, votes and sometimes writes a better answer.

    Attributes:
        noise: Scale of the logistic noise in a choice, in units of the gold reward.
        taste: What the visitor adds to the gold reward's weights, by property.
        threshold: Utility below which a reply is bad, and above which a thumb goes up.
        tie_width: Smaller differences of utility are ties.
        left_bias: Added to the utility of the first reply.
        diligence: Probability of rewriting a bad reply.
        asked: The visitor's requests, by their text.
    """

    rng: random.Random
    noise: float
    taste: dict[str, float]
    threshold: float
    tie_width: float
    left_bias: float
    diligence: float
    asked: dict[str, Request] = field(default_factory=dict)

    def ask(self) -> str:
        """The next request of this visitor, as text."""
        request = sample_request(self.rng, _TRAIN)
        self.asked[request.text] = request
        return request.text

    def utility(self, prompt: str, reply: str) -> float:
        """How much this visitor likes a reply to something they asked, before noise."""
        verdict = judge(self.asked[prompt], reply)
        return (
            verdict.gold
            + self.taste["polite"] * verdict.polite
            + self.taste["correct"] * verdict.correct
            - self.taste["rude"] * verdict.rude
            + self.taste["length"] * min(verdict.words, 20) / 10
        )

    def choose(self, prompt: str, a: str, b: str) -> ChoiceLabel:
        """Pick one of two replies, or call it a tie, or both bad."""
        left, right = self.utility(prompt, a), self.utility(prompt, b)
        difference = left - right + self.left_bias + _logistic(self.rng) * self.noise
        if abs(difference) < self.tie_width or a == b:
            return "both_bad" if max(left, right) < self.threshold else "tie"
        return "a" if difference > 0 else "b"

    def thumb(self, prompt: str, reply: str) -> ThumbLabel | None:
        """A thumb on one reply, or none; strong feelings make one likelier."""
        feeling = self.utility(prompt, reply) - self.threshold + _logistic(self.rng) * self.noise
        if self.rng.random() > 0.3 + 0.6 * min(1.0, abs(feeling) / 2):
            return None
        return "up" if feeling > 0 else "down"

    def rewrite(self, prompt: str, reply: str) -> str | None:
        """A better answer, if the reply is not good and the visitor is diligent enough."""
        if self.rng.random() > self.diligence or self.utility(prompt, reply) > 2.0:
            return None
        return kind_reply(self.asked[prompt], self.rng)


_TRAIN = tuple(facts("train"))


def _logistic(rng: random.Random) -> float:
    u = min(max(rng.random(), 1e-9), 1 - 1e-9)
    return math.log(u / (1 - u))


def visitors(n: int, seed: int) -> list[Visitor]:
    """`n` visitors, each with their own tastes and habits, the same for the same seed."""
    return [_visitor(random.Random(f"{seed}/{i}")) for i in range(n)]


def _visitor(rng: random.Random) -> Visitor:
    return Visitor(
        rng=rng,
        noise=NOISE * math.exp(rng.gauss(0, 0.3)),
        taste={
            "polite": rng.gauss(0.1, TASTE),
            "correct": rng.gauss(0, TASTE),
            "rude": rng.gauss(0, TASTE),
            "length": rng.gauss(0.05, 0.05),
        },
        threshold=rng.gauss(0.8, 0.5),
        tie_width=abs(rng.gauss(0.25, 0.1)),
        left_bias=rng.gauss(0.1, 0.1),
        diligence=rng.betavariate(2, 3),
    )
