"""Who says which of two replies is better: simulated people, a reward model, the exact judge.

Each says it pair by pair: 1 if the new reply is better, 0 if the old one is, one half for a tie.
"""

import random
from collections.abc import Sequence

from benchmarks.two_questions.asking import GOLD, Asked, Question, Reply, worth
from rlhf_core.worlds.starter.raters import visitors

PEOPLE = 40
WON = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}


def by_people(
    question: Question,
    asked: Sequence[Asked],
    new: Sequence[Reply],
    old: Sequence[Reply],
    *,
    seed: int,
) -> list[float]:
    """By visitors with tastes, noise and a side of their own: one judges a pair, sides by lot."""
    people, found = visitors(PEOPLE, seed), []
    sides = random.Random(f"sides/{question}/{seed}")
    for place, (one, *pair) in enumerate(zip(asked, new, old, strict=True)):
        person, swapped = people[place % PEOPLE], sides.random() < 0.5
        left, right = (worth(question, one, r, person.taste) for r in pair[:: -1 if swapped else 1])
        said = person.habits.choose(
            person.rng, left, right, same=pair[0][0] == pair[1][0], enough=person.threshold
        )
        found.append(1 - WON[said] if swapped else WON[said])
    return found


def by_gold(
    question: Question, asked: Sequence[Asked], new: Sequence[Reply], old: Sequence[Reply]
) -> list[float]:
    """By what replies are worth without taste and noise."""
    mine, other = (
        [worth(question, one, reply, GOLD) for one, reply in zip(asked, replies, strict=True)]
        for replies in (new, old)
    )
    return by_scores(mine, other)


def by_scores(new: Sequence[float], old: Sequence[float]) -> list[float]:
    """By numbers, such as a reward model's; equal up to rounding is a tie."""
    return [
        0.5 if abs(mine - other) < 1e-9 else float(mine > other)
        for mine, other in zip(new, old, strict=True)
    ]
