"""How a simulated visitor votes, whatever the world: noise, ties, a side and diligence.

The worlds say what a reply is worth to a visitor; a habit turns that into a vote.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ChoiceLabel = Literal["a", "b", "tie", "both_bad"]
ThumbLabel = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Habits:
    """How one visitor votes.

    Attributes:
        noise: Scale of the logistic noise in a choice, in units of utility.
        tie_width: Smaller differences of utility are ties.
        left_bias: Added to the utility of the first reply.
        diligence: Probability of taking the time to write.
    """

    noise: float
    tie_width: float
    left_bias: float
    diligence: float

    def choose(
        self, rng: random.Random, left: float, right: float, *, same: bool, enough: float
    ) -> ChoiceLabel:
        """Pick one of two replies by what each is worth, or call it a tie, or both bad.

        Args:
            rng: The visitor's randomness.
            left: Utility of the first reply.
            right: Utility of the second reply.
            same: Whether both replies are the same text.
            enough: Utility from which on a reply is not bad.
        """
        difference = left - right + self.left_bias + _logistic(rng) * self.noise
        if abs(difference) < self.tie_width or same:
            return "both_bad" if max(left, right) < enough else "tie"
        return "a" if difference > 0 else "b"

    def rank(self, rng: random.Random, worth: Mapping[str, float]) -> list[list[str]]:
        """Put replies in an order, best first; those that hardly differ are tied, in one group.

        Each reply is felt once, so an order never contradicts itself. Of two replies it is a choice
        with the same noise and the same side, since two such noises differ by a logistic one.

        Args:
            rng: The visitor's randomness.
            worth: Utility of each different reply, from left to right.

        Source:
            Plackett 1975, Applied Statistics 24:193, and Luce 1959: the order by utilities with
            Gumbel noise.
        """
        last = max(1, len(worth) - 1)
        felt = {
            reply: utility + self.left_bias * (1 - place / last) + _gumbel(rng) * self.noise
            for place, (reply, utility) in enumerate(worth.items())
        }
        groups: list[list[str]] = []
        for reply in sorted(felt, key=felt.__getitem__, reverse=True):
            if groups and felt[groups[-1][0]] - felt[reply] < self.tie_width:
                groups[-1].append(reply)
            else:
                groups.append([reply])
        return groups

    def thumb(self, rng: random.Random, utility: float, *, enough: float) -> ThumbLabel | None:
        """A thumb on one reply, or none; strong feelings make one likelier.

        Args:
            rng: The visitor's randomness.
            utility: What the reply is worth.
            enough: Utility above which a thumb goes up.
        """
        feeling = utility - enough + _logistic(rng) * self.noise
        if rng.random() > 0.3 + 0.6 * min(1.0, abs(feeling) / 2):
            return None
        return "up" if feeling > 0 else "down"

    def writes(self, rng: random.Random) -> bool:
        """Whether the visitor now takes the time to write."""
        return rng.random() <= self.diligence


def _logistic(rng: random.Random) -> float:
    u = _inside(rng)
    return math.log(u / (1 - u))


def _gumbel(rng: random.Random) -> float:
    return -math.log(-math.log(_inside(rng)))


def _inside(rng: random.Random) -> float:
    """A number between 0 and 1, and neither."""
    return min(max(rng.random(), 1e-9), 1 - 1e-9)
