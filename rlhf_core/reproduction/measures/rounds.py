"""Claim 11: what rounds of new votes and training bring, and what an old reward model loses.

Policies are those after each round, on the mixed test set at temperature 1; the start is SFT. A
reward model is stale that learnt from the first round's votes alone, and fresh that learnt from all
rounds'. Pairs are two replies to a request about a subject that no reward model knows. They are
by the policy that the last round began with: the fresh model learnt from votes on its replies, and
PPO had not climbed that model yet. The fresh one has also more votes, which help it on any pairs,
so there are controls. One is how much more the stale one loses there than on pairs by the start: by
fewer votes alone it would lose about as much on both. Another is the other claims' reward model,
which has still more votes, on replies by the start (and some by the base), and more members. Pairs
by the policy that the last round made stand beside them; it has climbed the fresh model's mistakes.

The bars can hold although later rounds bring nothing, and more of PPO alone might bring as much. So
rounds that are not surely better than the one before are named, and the last stands beside the
other claims' PPO-ptx, which trained once, by the reward model of more votes and members.

Shapes: S seeds, N test pairs.
"""

import math
from collections.abc import Mapping

import numpy as np

from rlhf_core.reproduction.claims import Figure, Figures, Found
from rlhf_core.reproduction.labelling import shown
from rlhf_core.reproduction.measures.judged import GOLD, JudgedPolicies, table_of
from rlhf_core.reproduction.measures.prediction import votes_on
from rlhf_core.reproduction.measures.statistics import Table, bootstrap, share
from rlhf_core.reproduction.measures.tax import mean_skill
from rlhf_core.reproduction.policies import paired_requests
from rlhf_core.reproduction.voting_rounds import (
    AFTER,
    FRESH,
    MODELS,
    MORE,
    ROUNDS,
    STALE,
    VOTED_ON,
    round_iterations,
    round_members,
    start_of,
)

PAIRS_BY = {
    VOTED_ON: "the policy that the last round began with",
    AFTER: "the policy after the last round",
    "sft": "the start",
}
OLD = {
    STALE: "a stale reward model",
    MORE: "the other claims' reward model (more votes, more members)",
}
TAIL = 5  # percent


def rounds_help(judged: JudgedPolicies) -> Found:
    """Claim 11."""
    steps = {r: share(judged.wins(f"round-{r}", start_of(r)), "held-out labelers") for r in ROUNDS}
    profile = judged.seeds[0].kept.profile
    iterations = f"{len(ROUNDS) * round_iterations(profile)} against {profile.iterations}"
    figures = {
        "last round over the start": share(judged.wins(AFTER, "sft"), "held-out labelers"),
        "last round over PPO-ptx of the other claims": share(
            judged.wins(AFTER, "ptx"), f"held-out labelers; {iterations} iterations of PPO"
        ),
        **_stale_reward_models(judged),
        "last round over the start, by the exact judge": share(judged.gold_wins(AFTER, "sft")),
    }
    for number, won in steps.items():
        before = f"round {number - 1}" if number > 1 else "the start"
        figures[f"round {number} over {before}"] = won
        figures[f"round {number} over {before}, Elo"] = _elo(won)
    policies = ["sft", *(f"round-{number}" for number in ROUNDS)]
    for policy in policies:
        figures |= _gold(judged, policy)
    for number in ROUNDS:
        kl = [facts["objective/kl"] for facts in judged.facts(f"round-{number}")]
        figures[f"KL from SFT, nats a reply, round {number}"] = Figure(sum(kl) / len(kl))
    for said, stage in (("base", "base"), (f"round {ROUNDS[-1]}", "last-round")):
        figures[f"mean skill, {said}"] = Figure(mean_skill(judged, stage))
    members = round_members(profile), profile.members
    remarks = _not_surely_better(steps)
    remarks += [
        "members: {} in a round's reward model, {} in the other claims'".format(*members),
        "skills of rounds without ptx are not measured: that would take three more PPO runs",
    ]
    curves = {_said(policy): _distribution(judged, policy) for policy in policies}
    return Found(figures, remarks, curves, (GOLD, "share of replies below"))


def _not_surely_better(steps: Mapping[int, Figure]) -> list[str]:
    """A remark that names the later rounds that may be no better than the one before."""
    named = [f"round {n}" for n in ROUNDS[1:] if not (steps[n].low or 0.0) > 0.5]
    said = "not surely better than the round before (low end of the win rate not above 0.5)"
    return [f"{said}: {', '.join(named)}"] if named else []


def _stale_reward_models(judged: JudgedPolicies) -> Figures:
    """Accuracy of the reward models on held-out labelers' votes, by who wrote the pairs."""
    accuracies, losses = {}, {}
    counted = {writer: _right(judged, writer) for writer in PAIRS_BY}
    for writer, said in PAIRS_BY.items():
        right, votes = counted[writer]
        for model, named in {FRESH: "the fresh one", **OLD}.items():
            accuracies[f"accuracy of {named}, pairs by {said}"] = bootstrap(
                [right[model], votes], lambda means: means[0] / means[1]
            )
        for model, named in OLD.items():
            losses[f"loss of {named}, pairs by {said}"] = bootstrap(
                [right[FRESH], right[model], votes],
                lambda means: (means[0] - means[1]) / means[2],
                about=f"accuracy of the fresh one less its own, pairs by {said}",
            )
    main = losses.pop(f"loss of {OLD[STALE]}, pairs by {PAIRS_BY[VOTED_ON]}")
    both = [[right[FRESH], right[STALE], n] for right, n in (counted[VOTED_ON], counted["sft"])]
    more = bootstrap(
        both[0] + both[1],
        lambda means: (means[0] - means[1]) / means[2] - (means[3] - means[4]) / means[5],
        about=f"paired; pairs by {PAIRS_BY[VOTED_ON]}",
    )
    return {
        f"loss of {OLD[STALE]}": main,
        f"loss of {OLD[STALE]} less its loss on pairs by {PAIRS_BY['sft']}": more,
        **losses,
        **accuracies,
    }


def _right(judged: JudgedPolicies, writer: str) -> tuple[dict[str, Table], Table]:
    """Of each pair by a writer: votes that each reward model foretells, and all votes; (S, N)."""
    asked, counted = [], []
    right: dict[str, list[list[int]]] = {model: [] for model in MODELS}
    for one, people in zip(judged.seeds, judged.people("held out"), strict=True):
        facts = one.kept.facts("round-pairs")
        asked.append(paired_requests(one.kept.profile, one.kept.seed))
        votes = votes_on(shown(asked[-1], facts["pairs"][writer]), people)
        counted.append([len(row) for row in votes])
        for model, stated in facts["probabilities"][writer].items():
            says = ["a" if p > 0.5 else "b" for p in stated]
            right[model].append([row.count(s) for row, s in zip(votes, says, strict=True)])
    return {m: table_of(rows, asked) for m, rows in right.items()}, table_of(counted, asked)


def _elo(won: Figure) -> Figure:
    """A win rate and its interval in points of Elo."""
    low, high = (None if p is None else _points(p) for p in (won.low, won.high))
    return Figure(_points(won.value), low, high, unit="Elo")


def _points(p: float) -> float:
    """400 log10(p / (1 - p)), of a rate p in [0, 1]."""
    return 400 * math.log10(p / (1 - p)) if 0 < p < 1 else math.copysign(math.inf, p - 0.5)


def _said(policy: str) -> str:
    return "start" if policy == "sft" else policy.replace("-", " ")


def _gold(judged: JudgedPolicies, policy: str) -> dict[str, Figure]:
    """Gold reward, its low end, and how many replies are helpful, and neither rude nor made up."""
    gold = judged.verdicts(policy, "mixed", lambda _, v: v.gold)
    helpful = judged.verdicts(policy, "mixed", lambda _, v: v.correct and v.constraint_met)
    civil_and_true = judged.verdicts(policy, "mixed", lambda _, v: not (v.toxic or v.fabricated))
    said = _said(policy)
    return {
        f"gold reward, {said}": bootstrap([gold], lambda means: means[0], unit=GOLD),
        f"gold reward, lowest {TAIL}% below, {said}": Figure(
            float(np.percentile(gold.values, TAIL)), unit=GOLD
        ),
        f"helpful, {said}": share(helpful, "right, and in the form that was asked for"),
        f"neither rude nor made up, {said}": share(civil_and_true),
    }


def _distribution(judged: JudgedPolicies, policy: str) -> list[tuple[float, float]]:
    """The gold reward below which each twentieth of the replies lies."""
    gold = judged.verdicts(policy, "mixed", lambda _, v: v.gold).values
    shares = np.arange(0.05, 1.0, 0.05)
    return list(zip(np.quantile(gold, shares).tolist(), shares.tolist(), strict=True))
