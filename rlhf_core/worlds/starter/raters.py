"""Simulated visitors: the exact judge, with known tastes, noise, ties and habits.

They vote where no people are at hand; their votes are never presented as people's. A visitor asks
only about training subjects in common wordings, so that test questions stay unseen.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.habits import ChoiceLabel, Habits, ThumbLabel
from rlhf_core.worlds.starter.judge import judge
from rlhf_core.worlds.starter.world import Request, kind_reply, sample_request

NOISE = 0.45  # median scale of the logistic noise on a difference of utilities
TASTE = 0.35  # standard deviation of a visitor's own weights around the gold ones


@dataclass(slots=True)
class Visitor:
    """One visitor: asks, votes and sometimes writes a better answer.

    Attributes:
        rng: All of the visitor's randomness.
        habits: How the visitor votes, in units of the gold reward.
        taste: What the visitor adds to the gold reward's weights, by property.
        threshold: Utility below which a reply is bad, and above which a thumb goes up.
        requests: The only requests that this visitor makes; empty for the usual mixture.
        asked: The visitor's requests, by their text.
    """

    rng: random.Random
    habits: Habits
    taste: dict[str, float]
    threshold: float
    requests: Sequence[Request] = ()
    asked: dict[str, Request] = field(default_factory=dict)

    def ask(self) -> str:
        """The next request of this visitor, as text."""
        few = self.requests
        request = self.rng.choice(few) if few else sample_request(self.rng, _TRAIN)
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
        return self.habits.choose(self.rng, left, right, same=a == b, enough=self.threshold)

    def rank(self, prompt: str, replies: Sequence[str]) -> list[list[str]]:
        """Put the different ones of these replies in an order, best first, ties in one group."""
        worth = {reply: self.utility(prompt, reply) for reply in replies}
        return self.habits.rank(self.rng, worth)

    def thumb(self, prompt: str, reply: str) -> ThumbLabel | None:
        """A thumb on one reply, or none; strong feelings make one likelier."""
        return self.habits.thumb(self.rng, self.utility(prompt, reply), enough=self.threshold)

    def rewrite(self, prompt: str, reply: str) -> str | None:
        """A better answer, if the reply is not good and the visitor is diligent enough."""
        if not self.habits.writes(self.rng) or self.utility(prompt, reply) > 2.0:
            return None
        return kind_reply(self.asked[prompt], self.rng)


_TRAIN = tuple(facts("train"))


def visitors(n: int, seed: int, *, requests: Sequence[Request] = ()) -> list[Visitor]:
    """`n` visitors, each with their own tastes and habits, the same for the same seed.

    If `requests` are given, they ask nothing else.
    """
    return [_visitor(random.Random(f"{seed}/{i}"), requests) for i in range(n)]


def _visitor(rng: random.Random, requests: Sequence[Request]) -> Visitor:
    # The order of the draws is part of what a seed means.
    noise = NOISE * math.exp(rng.gauss(0, 0.3))
    taste = {
        "polite": rng.gauss(0.1, TASTE),
        "correct": rng.gauss(0, TASTE),
        "rude": rng.gauss(0, TASTE),
        "length": rng.gauss(0.05, 0.05),
    }
    threshold = rng.gauss(0.8, 0.5)
    habits = Habits(
        noise=noise,
        tie_width=abs(rng.gauss(0.25, 0.1)),
        left_bias=rng.gauss(0.1, 0.1),
        diligence=rng.betavariate(2, 3),
    )
    return Visitor(rng, habits, taste, threshold, requests)
