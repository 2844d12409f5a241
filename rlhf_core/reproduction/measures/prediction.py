"""Claims 9 and 13: what reward models predict, by whose votes and by which kinds of votes.

Test pairs are two replies by SFT to validation requests, whose subjects teach no reward model.
Every labeler says of each pair which reply is better; a tie is no vote, as in the paper.

Shapes: S seeds, N test pairs.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
import torch

from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.labelling import FOLDS, SIGNALS, fold_of, pick, shown
from rlhf_core.reproduction.measures.judged import JudgedPolicies, JudgedSeed, table_of
from rlhf_core.reproduction.measures.statistics import Array, Table, bootstrap, share_within
from rlhf_core.reproduction.policies import paired_requests
from rlhf_core.reward.calibration import expected_calibration_error
from rlhf_core.worlds.miniature.judge import judge
from rlhf_core.worlds.miniature.labelers import Labeler, ShownPair


def other_labelers(judged: JudgedPolicies) -> Found:
    """Claim 9, over five folds of the training labelers."""
    people = judged.people("train")
    # of each seed: four rows of N numbers
    counted = [_counts(one, group) for one, group in zip(judged.seeds, people, strict=True)]
    own_right, own, other_right, other = (
        _of_pairs(judged, [row[k] for row in counted]) for k in range(4)
    )
    agreement = _agreement(judged)
    ceiling = 0.5 + 0.5 * math.sqrt(max(0.0, 2 * agreement - 1))

    def accuracy(means: Array) -> Array:
        within: Array = means[0] / means[1]
        return within

    in_group = bootstrap([own_right, own], accuracy, about="labelers whom it learnt from")
    outside = bootstrap([other_right, other], accuracy, about="labelers of the fold left out")
    drop = bootstrap(
        [own_right, own, other_right, other], lambda m: m[0] / m[1] - m[2] / m[3], about="paired"
    )
    below = Figure(
        ceiling - in_group.value,
        None if in_group.high is None else ceiling - in_group.high,
        None if in_group.low is None else ceiling - in_group.low,
        "ceiling less accuracy in the group",
    )
    return Found(
        {
            "accuracy in the group": in_group,
            "accuracy outside": outside,
            "drop": drop,
            "below the ceiling": below,
            "ceiling": Figure(ceiling, about=f"labelers agree on {agreement:.1%} of the pairs"),
            "calibration error": Figure(_calibration_error(judged)),
        }
    )


def signals(judged: JudgedPolicies) -> Found:
    """Claim 13: how often reward models order test pairs as the exact judge, by kind of votes."""
    right, decided = right_by_gold(judged, [f"{signal}-reward" for signal in SIGNALS])
    figures, remarks = {}, []
    for signal in SIGNALS:
        figures[f"right by gold, {signal}"] = share_within(right[f"{signal}-reward"], decided)
        votes = judged.facts(f"{signal}-votes")[0]
        remarks.append(", ".join(f"{name} {votes[name]}" for name in ("events", "comparisons")))
    best = max(figures, key=lambda name: figures[name].low or 0.0)
    return Found(figures, [*remarks, f"best lower bound: {best}"])


def right_by_gold(judged: JudgedPolicies, stages: Sequence[str]) -> tuple[dict[str, Table], Table]:
    """Which test pairs each stage's reward model orders as the judge, and which the judge orders.

    Each is (S, N).
    """
    gold = _of_pairs(judged, [_gold_differences(one) for one in judged.seeds])
    right = {}
    for stage in stages:
        stated = np.array([facts["probabilities"] for facts in judged.facts(stage)])
        right[stage] = gold.like((stated > 0.5) == (gold.values > 0))
    return right, gold.like(abs(gold.values) > 1e-9)


def _pairs(one: JudgedSeed) -> list[ShownPair]:
    """The test pairs of a seed."""
    asked = paired_requests(one.kept.profile, one.kept.seed)
    return shown(asked, one.kept.facts("pairs")["pairs"])


def _of_pairs(judged: JudgedPolicies, rows: Sequence[Sequence[float]]) -> Table:
    """A number for each test pair; (S, N)."""
    return table_of(rows, [[pair.request for pair in _pairs(one)] for one in judged.seeds])


def _gold_differences(one: JudgedSeed) -> list[float]:
    """How much better the first reply of each test pair is, by the exact judge."""
    return [
        judge(request, a, finished=a_ended).gold - judge(request, b, finished=b_ended).gold
        for request, a, b, (a_ended, b_ended) in _pairs(one)
    ]


def votes_on(pairs: Sequence[ShownPair], people: Sequence[Labeler]) -> list[list[str]]:
    """The votes of these labelers on each pair, without ties; N lists of `a` and `b`.

    A labeler sees a pair's sides as they were once drawn, whoever else votes.
    """
    sides = [(who, random.Random(f"votes/{who.name}")) for who in people]
    return [
        [vote for who, rng in sides if (vote := pick(who, pair, rng)) != "tie" and pair.a != pair.b]
        for pair in pairs
    ]


def _counts(one: JudgedSeed, people: Sequence[Labeler]) -> list[list[float]]:
    """Of each pair over all folds: right and all votes in the group, right and all outside."""
    found = []
    for fold in range(FOLDS):
        says = [p > 0.5 for p in one.kept.facts(f"fold-{fold}-reward")["probabilities"]]
        for group in fold_of(people, fold):
            votes = votes_on(_pairs(one), group)
            found.append(
                [
                    [
                        sum((vote == "a") == first for vote in row)
                        for row, first in zip(votes, says, strict=True)
                    ],
                    [len(row) for row in votes],
                ]
            )
    rows = [*zip(*found[0::2], strict=True), *zip(*found[1::2], strict=True)]  # by fold
    return [[float(sum(column)) for column in zip(*by_fold, strict=True)] for by_fold in rows]


def _calibration_error(judged: JudgedPolicies) -> float:
    """Of the first fold's probabilities, on votes by the labelers whom it learnt from."""
    stated, happened = [], []
    for one, people in zip(judged.seeds, judged.people("train"), strict=True):
        group, _ = fold_of(people, 0)
        probabilities = one.kept.facts("fold-0-reward")["probabilities"]
        for p, row in zip(probabilities, votes_on(_pairs(one), group), strict=True):
            stated += [p] * len(row)
            happened += [float(vote == "a") for vote in row]
    return expected_calibration_error(torch.tensor(stated), torch.tensor(happened))


def _agreement(judged: JudgedPolicies) -> float:
    """How often two training labelers who both prefer a reply prefer the same one."""
    same = couples = 0
    for one, people in zip(judged.seeds, judged.people("train"), strict=True):
        for row in votes_on(_pairs(one), people):
            first, second = row.count("a"), row.count("b")
            same += first * (first - 1) + second * (second - 1)
            couples += len(row) * (len(row) - 1)
    return same / couples if couples else float("nan")
