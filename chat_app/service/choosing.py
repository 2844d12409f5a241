"""Which two of several sampled replies are shown side by side, by lot or by doubt.

Lots choose in a share of the cases among all pairs; else it is the pair of which the engine is most
uncertain which reply people prefer. So the probability of each pair is known, and is stored with
the pair: whoever learns from the votes can undo the choice. Where a question is suggested, the pair
is chosen among the replies to several (`prepared.py`), by the same rule. Invariant: votes that
evaluate are on pairs that lots chose. So nothing is chosen by doubt on questions that are held out,
for raters who are or will be, and in trials.
"""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from chat_app.engine import Engine
from feedback_store.records import Arm, PromptMessage
from feedback_store.splits import is_held_out_rater, split_of

log = logging.getLogger(__name__)

LOT = random.SystemRandom()  # nobody can foresee which side is whose
Pair = tuple[int, int]
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class ChosenReplies:
    """The replies that are shown, by their places, from left to right.

    Attributes:
        places: Two of those that were sampled, or all.
        arm: Whether lots or doubt chose them.
        propensity: The probability with which these were shown, given what was sampled.
    """

    places: tuple[int, ...]
    arm: Arm = "random"
    propensity: float = 1.0


@dataclass(frozen=True, slots=True)
class DoubtedReplies:
    """How many replies to one prompt there are, and how uncertain pairs of them are, if known."""

    replies: int
    doubts: Mapping[Pair, float]


def may_choose(rater_id: str, prompt: Sequence[PromptMessage]) -> bool:
    """Whether votes of this rater on this prompt train and never evaluate."""
    return split_of(prompt) == "train" and not is_held_out_rater(rater_id)


async def choose(
    engine: Engine, prompt: Sequence[PromptMessage], replies: Sequence[str], *, share: float
) -> ChosenReplies:
    """Two of several replies whose texts differ, in an order by lot.

    Where the engine knows nothing of them, lots choose among all pairs.

    Args:
        engine: It says how uncertain each pair is.
        prompt: What the replies answer.
        replies: At least two.
        share: In how many cases doubt chooses.
    """
    found = DoubtedReplies(len(replies), await doubts_of(engine, prompt, replies))
    return choose_of_all([found], share=share)[1]


async def doubts_of(
    engine: Engine, prompt: Sequence[PromptMessage], replies: Sequence[str]
) -> Mapping[Pair, float]:
    """What the engine says of replies; nothing if it cannot say it."""
    try:
        return await engine.doubts(prompt, replies)
    except Exception:  # people get their replies; the log says why lots chose
        log.exception("nothing is known of how uncertain replies are; lots choose")
        return {}


def choose_of_all(found: Sequence[DoubtedReplies], *, share: float) -> tuple[int, ChosenReplies]:
    """One of several prompts by its place, and two of the replies to it, in an order by lot.

    Lots draw among all pairs of which something is known, whichever prompt they answer, and doubt
    takes the most uncertain of them. If nothing is known, lots draw a pair of the first prompt.

    Args:
        found: At least one; the first has two replies or more.
        share: In how many cases doubt chooses.
    """
    doubts = {(at, p): v for at, one in enumerate(found) for p, v in one.doubts.items()}
    by_doubt = bool(doubts) and LOT.random() < share
    pairs = [*doubts] or [(0, pair) for pair in combinations(range(found[0].replies), 2)]
    chances = propensities(doubts, share) if doubts else dict.fromkeys(pairs, 1 / len(pairs))
    at, pair = max(doubts, key=doubts.__getitem__) if by_doubt else LOT.choice(pairs)
    left, right = LOT.sample(pair, 2)
    arm: Arm = "active" if by_doubt else "random"
    return at, ChosenReplies((left, right), arm, chances[at, pair])


def propensities(doubts: Mapping[Key, float], share: float) -> dict[Key, float]:
    """The probability with which each pair is shown: of the most uncertain one, `share` more."""
    best = max(doubts, key=doubts.__getitem__)
    by_lot = (1 - share) / len(doubts)
    return {pair: by_lot + (share if pair == best else 0.0) for pair in doubts}
