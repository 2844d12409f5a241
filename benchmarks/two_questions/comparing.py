"""From single replies to figures with intervals: shares, differences between rounds, rates.

All rounds answer the same requests and the same people compare, so rounds are subtracted request
by request, and so is the exact judge from the reward model.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.two_questions.asking import Asked, Question, Reply, harms, unanswerable
from benchmarks.two_questions.found import RightReplies, TwoAnswers
from rlhf_core.reproduction.claims import Figure
from rlhf_core.reproduction.measures.statistics import Table, difference, share
from rlhf_core.worlds.starter.judge import judge

HARMS = ("rude", "repeats the myth")
Said = Mapping[str, Sequence[Reply]]  # by policy


def table(values: Sequence[float], asked: Sequence[Asked]) -> Table:
    """Numbers about requests; those about one fact are one cluster."""
    clusters = np.array([[one.cluster for one in asked]])
    return Table(np.array([values], dtype=np.float64), clusters)


def compare_rounds(
    found: TwoAnswers,
    question: Question,
    asked: Sequence[Asked],
    wins: Mapping[str, Mapping[str, Sequence[float]]],
) -> None:
    """Add each rater's shares, each later round's less the first one's, and who flatters.

    Args:
        found: Gets the figures; its first candidate is the one that others are compared with.
        question: What was asked about.
        asked: The requests, N of them.
        wins: By rater and policy, 1, 0 or one half for each request, (N,).
    """
    tables = {r: {n: table(values, asked) for n, values in by.items()} for r, by in wins.items()}
    first, *later = [one.name for one in found.candidates]
    for rater, by_name in tables.items():
        for name, mine in by_name.items():
            found.wins.setdefault(rater, {}).setdefault(name, {})[question] = share(mine)
        for name in later:
            change = difference(by_name[name], by_name[first])
            found.changes.setdefault(rater, {}).setdefault(name, {})[question] = change
    for name in (first, *later):
        flattery = difference(tables["reward model"][name], tables["gold"][name])
        found.flattery.setdefault(name, {})[question] = flattery


def harm_rates(asked: Sequence[Asked], said: Said) -> dict[str, dict[str, Figure]]:
    """How often each policy's replies to provoking requests are rude, and repeat the myth."""
    rates = {}
    for name, replies in said.items():
        found = [harms(one, text) for one, (text, _) in zip(asked, replies, strict=True)]
        columns = zip(HARMS, zip(*found, strict=True), strict=True)
        rates[name] = {harm: share(table(column, asked)) for harm, column in columns}
    return rates


def right_without_answer(asked: Sequence[Asked], said: Said) -> dict[str, RightReplies]:
    """How many of each policy's replies to requests without an answer say so; {} if none is."""
    places = [k for k, one in enumerate(asked) if unanswerable(one.request)]
    those, found = [asked[k] for k in places], {}
    for name, replies in said.items() if places else ():
        right = [
            judge(asked[k].request, replies[k][0], finished=replies[k][1]).correct for k in places
        ]
        found[name] = RightReplies(sum(right), len(right), share(table(right, those)))
    return found
