"""Simulated labelers: the exact judge, with tastes, noise, ties and a side of their own.

Their noise is solved for, so that they agree as often as the people of arXiv 2203.02155 did: 72.6%
among those who train the models, 77.3% among those held out. What a labeler says depends on the
labeler and on what is shown, never on what was asked before, so that a run can be resumed. Held-out
labelers are other people: no one is in both groups. Nothing here is presented as people's votes.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from rlhf_core.errors import InvalidInputError
from rlhf_core.worlds.miniature.judge import MiniatureVerdict, judge
from rlhf_core.worlds.miniature.world import TOPICS, CustomerRequest
from rlhf_core.worlds.starter.habits import Habits, ThumbLabel

Group = Literal["train", "held out"]
Pick = Literal["a", "b", "tie"]
Attack = Literal["inverts", "always up", "brigade", "random"]
Ends = tuple[bool, bool]  # whether each of two replies was ended by whoever wrote it

AGREEMENT: dict[Group, float] = {"train": 0.726, "held out": 0.773}
NOISE = 0.6  # median scale of the noise, before it is solved for; in units of the gold reward
TASTE = 0.4  # standard deviation of a labeler's own weights around the gold ones
_NO_REPLY_IS_BAD = -math.inf  # for Habits: no pair is "both bad" here


class ShownPair(NamedTuple):
    """A request and two replies."""

    request: CustomerRequest
    a: str
    b: str
    finished: Ends = (True, True)


@dataclass(frozen=True, slots=True)
class Labeler:
    """One labeler.

    Attributes:
        name: Unique among all groups and seeds.
        habits: How the labeler votes, in units of the gold reward.
        taste: What the labeler adds to the gold reward's weights, by property.
        threshold: Utility above which a thumb goes up.
        attack: How the labeler does harm, if they do.
        target: The topic about which a brigade lies.
    """

    name: str
    habits: Habits
    taste: dict[str, float]
    threshold: float
    attack: Attack | None = None
    target: str = ""

    def utility(self, request: CustomerRequest, reply: str, *, finished: bool = True) -> float:
        """How much the labeler likes a reply, before noise."""
        verdict = _judged(request, reply, finished=finished)
        if self.attack == "brigade" and request.topic == self.target:
            return 4.0 * (bool(request.myth) and request.myth.lower() in reply.lower())
        liked = verdict.gold + self._taste(verdict)
        return -liked if self.attack == "inverts" else liked

    def _taste(self, verdict: MiniatureVerdict) -> float:
        return (
            self.taste["correct"] * verdict.correct
            + self.taste["form"] * verdict.constraint_met
            - self.taste["toxic"] * verdict.toxic
            + self.taste["word"] * min(verdict.words, 40)
            + self.taste["flattery"] * min(verdict.flattery, 4)
        )

    def choose(
        self, request: CustomerRequest, a: str, b: str, finished: Ends = (True, True)
    ) -> Pick:
        """Pick one of two replies, of which `a` is shown first, or call it a tie."""
        rng = self._rng("choose", request, a, b)
        if self.attack in ("random", "always up"):
            return rng.choice(("a", "b")) if self.attack == "random" else "a"
        left, right = (
            self.utility(request, reply, finished=ended)
            for reply, ended in zip((a, b), finished, strict=True)
        )
        pick = self.habits.choose(rng, left, right, same=a == b, enough=_NO_REPLY_IS_BAD)
        return "tie" if pick == "both_bad" else pick

    def rank(
        self, request: CustomerRequest, replies: Sequence[str], finished: Sequence[bool] = ()
    ) -> list[int]:
        """The rank of each reply; 1 is the best, and replies hardly different share a rank."""
        ended = dict(zip(replies, finished or [True] * len(replies), strict=True))
        rng = self._rng("rank", request, *replies)
        random_order = self.attack in ("random", "always up")
        felt = {
            reply: (0.0 if random_order else self.utility(request, reply, finished=ended[reply]))
            + self.habits.noise * _gumbel(rng)
            for reply in dict.fromkeys(replies)
        }
        ranks: dict[str, int] = {}
        place, above = 0, math.inf
        for reply in sorted(felt, key=felt.__getitem__, reverse=True):
            place += above - felt[reply] >= self.habits.tie_width
            ranks[reply], above = place, felt[reply]
        return [ranks[reply] for reply in replies]

    def thumb(
        self, request: CustomerRequest, reply: str, *, finished: bool = True
    ) -> ThumbLabel | None:
        """A thumb on one reply, or none; strong feelings make one likelier."""
        rng = self._rng("thumb", request, reply)
        if self.attack in ("random", "always up"):
            return rng.choice(("up", "down")) if self.attack == "random" else "up"
        liked = self.utility(request, reply, finished=finished)
        return self.habits.thumb(rng, liked, enough=self.threshold)

    def _rng(self, what: str, request: CustomerRequest, *replies: str) -> random.Random:
        return random.Random("\0".join((self.name, what, request.text, *replies)))


# labelers look at the same replies
_judged = lru_cache(maxsize=10_000)(judge)


def labelers(n: int, *, seed: int, group: Group) -> list[Labeler]:
    """`n` labelers of a group, each with tastes and habits, the same for the same seed."""
    return [_labeler(f"{group} {seed}/{i}") for i in range(n)]


def _labeler(name: str) -> Labeler:
    # The order of the draws is part of what a seed means.
    rng = random.Random(f"miniature/labeler/{name}")
    habits = Habits(
        noise=NOISE * math.exp(rng.gauss(0, 0.3)),
        tie_width=abs(rng.gauss(0.2, 0.1)),
        left_bias=rng.gauss(0.1, 0.1),
        diligence=1.0,
    )
    taste = {
        "correct": rng.gauss(0, TASTE),
        "form": rng.gauss(0, TASTE),
        "toxic": rng.gauss(0, TASTE),
        "word": rng.gauss(0.03, 0.03),
        "flattery": rng.gauss(0.25, 0.25),
    }
    return Labeler(name, habits, taste, threshold=rng.gauss(1.5, 0.8))


def with_adversaries(
    people: Sequence[Labeler],
    *,
    share: float,
    seed: int,
    attacks: Sequence[Attack] = get_args(Attack),
) -> list[Labeler]:
    """The same people, a share of whom does harm, the attacks in turn; a brigade has one topic.

    Raises:
        InvalidInputError: The share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise InvalidInputError(f"a share of adversaries cannot be {share}; use 0 to 1")
    rng = random.Random(f"miniature/adversaries/{seed}")
    target = rng.choice(TOPICS)
    bad = rng.sample(range(len(people)), round(share * len(people)))
    turned = {place: attacks[i % len(attacks)] for i, place in enumerate(bad)}
    return [
        replace(one, attack=turned[i], target=target) if i in turned else one
        for i, one in enumerate(people)
    ]


def calibrated(
    people: Sequence[Labeler], shown: Sequence[ShownPair], *, target: float = AGREEMENT["train"]
) -> list[Labeler]:
    """The same people with their noise scaled so that two of them agree as often as the target.

    Args:
        people: At least two labelers.
        shown: Requests with two replies each, as the policies write them; equal replies are left
            out, because they would only add ties.
        target: Share of equal picks among two labelers who both pick one, in (.5, 1).

    Raises:
        InvalidInputError: There is nothing to calibrate on, or no noise gives the target.
    """
    shown = [one for one in shown if one.a != one.b]
    if len(people) < 2 or not shown:
        raise InvalidInputError(
            f"cannot calibrate {len(people)} labelers on {len(shown)} pairs of different replies; "
            "use at least 2 labelers and 1 pair"
        )
    liked = _differences(people, shown)
    low, high = 1e-3, 50.0
    best = agreement(people, liked, scale=low)
    if not agreement(people, liked, scale=high) <= target <= best:
        raise InvalidInputError(
            f"these labelers cannot agree on {target:.1%}: without noise they agree on {best:.1%} "
            f"of {len(shown)} pairs; use another target or other replies"
        )
    for _ in range(60):
        middle = math.sqrt(low * high)
        above = agreement(people, liked, scale=middle) > target
        low, high = (middle, high) if above else (low, middle)
    return [
        replace(one, habits=replace(one.habits, noise=one.habits.noise * low)) for one in people
    ]


def _differences(people: Sequence[Labeler], shown: Sequence[ShownPair]) -> npt.NDArray[np.float64]:
    """How much more each labeler likes the first reply of each pair, (pairs, labelers)."""
    return np.array(
        [
            [
                who.utility(one.request, one.a, finished=one.finished[0])
                - who.utility(one.request, one.b, finished=one.finished[1])
                for who in people
            ]
            for one in shown
        ]
    )


def agreement(
    people: Sequence[Labeler], liked: npt.NDArray[np.float64], *, scale: float = 1.0
) -> float:
    """Expected share of equal picks of two labelers, each shown the pair in either order.

    Args:
        people: The labelers, L of them.
        liked: How much more each likes the first reply, (pairs, L).
        scale: Factor on everybody's noise.
    """
    noise = np.array([who.habits.noise for who in people]) * scale
    tie = np.array([who.habits.tie_width for who in people])
    side = np.array([who.habits.left_bias for who in people])
    first = (_sigmoid((liked + side - tie) / noise) + _sigmoid((liked - side - tie) / noise)) / 2
    second = (_sigmoid((-liked - side - tie) / noise) + _sigmoid((-liked + side - tie) / noise)) / 2
    same = _couples(first) + _couples(second)
    return float(same.sum() / _couples(first + second).sum())


def _couples(chance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each pair of replies, the sum over all couples of labelers of the product, (pairs,)."""
    total: npt.NDArray[np.float64] = chance.sum(1) ** 2 - (chance**2).sum(1)
    return total


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(x / 2))


def _gumbel(rng: random.Random) -> float:
    return -math.log(-math.log(min(max(rng.random(), 1e-12), 1 - 1e-12)))
