"""How far a rater's word can be relied on, and who is to be quarantined: pure functions.

A rater says what is right with probability q. What is known of q: a prior, gold questions, and
where others judged the same two texts, how likely each verdict is right by theirs alone. q is 1/2
for a coin and below it for someone who says the opposite of what they find. Invariants: nobody who
shares nothing with others and took no test is doubted; a few judgements move a rater little;
results do not depend on the order of raters or judgements. The others' skills come from Dawid and
Skene's model as crowd-kit fits it (its Noisy Bradley-Terry would fit preferences better, but
version 1.4.2 climbs along a wrong gradient of skills and biases). crowd-kit has no prior, so it is
given as judgements of made-up tasks with known answers, to which the gold questions are added.
"""

import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from crowdkit.aggregation.classification.dawid_skene import DawidSkene
from scipy.special import expit, logit
from scipy.stats import binomtest

from feedback_store.raters.agreement import (
    Array,
    PairVote,
    VoteArrays,
    opposing_camp,
    shares_agreeing,
)
from feedback_store.raters.behaviour import MOST_VOTES, WITHIN_S, Behaviour


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """What is expected of a rater, and when one is quarantined.

    Source:
        The labelers of InstructGPT (arXiv 2203.02155, section 3.4) agreed with each other in 73% of
        cases, so each was right in about 84%; visitors are no trained labelers, hence 70%.
    """

    prior_right: float = 7.0  # the prior of q is Beta(right, wrong): as if so many were seen
    prior_wrong: float = 3.0
    consensus_at_best: float = 0.95  # others are never believed more than this
    fewest_shared: int = 10  # judgements shared with others, before they can speak against one
    contrary: float = 0.95  # quarantine if q < 1/2 is so probable
    fewest_gold: int = 10
    gold_share: float = 0.6  # quarantine below it
    one_side: float = 0.9  # quarantine at or above it on one side, if that is no accident ...
    false_alarms: float = 0.01  # ... the chance that any of all honest raters is so flagged
    fewest_bursts: int = 2  # occasions of too many votes a minute; of fewer there is a note
    fewest_copies: int = 10  # prompts answered with one text, before that speaks against one
    copied_share: float = 0.9  # quarantine at or above it; one text may be the honest answer ...
    noted_copied_share: float = 0.5  # ... to half of the prompts and more; above it there is a note
    position_bias: float = 0.2  # in log-odds; above it there is a note


@dataclass(frozen=True, slots=True)
class RaterReport:
    """What an assessment found of one rater; shares are None where nothing is known.

    `quarantine` is the reason for one, if there is; `notes` are for a person to look at.
    """

    rater_id: str
    votes: int
    shared: int
    agreement: float | None
    gold_right: int
    gold_total: int
    left_share: float | None
    fast_share: float | None
    reliability: float
    quarantine: str | None
    notes: tuple[str, ...] = ()


def assess(
    evidence: Sequence[Behaviour],
    judgements: Iterable[PairVote],
    settings: QualitySettings | None = None,
) -> list[RaterReport]:
    """Assess every rater, sorted by id.

    Args:
        evidence: Each rater once.
        judgements: Of these raters, at most one each of a subject.
        settings: The defaults if None.
    """
    settings = settings or QualitySettings()
    votes = VoteArrays(judgements)
    reasons = {e.rater_id: _behaviour(e, evidence, settings) for e in evidence}
    heard = {e.rater_id for e in evidence if not (e.quarantined or reasons[e.rater_id])}
    camp = opposing_camp(votes.of(heard))
    for rater in camp:
        reasons[rater] = f"one of {len(camp)} who agree with each other and contradict the rest"
    right = _probabilities(votes, _skills(votes.of(heard - camp), evidence, settings), settings)
    agreeing = shares_agreeing(votes)
    reports = []
    for e in sorted(evidence):
        others = right.get(e.rater_id, np.empty(0))
        report = _report(e, others, agreeing.get(e.rater_id), reasons[e.rater_id], settings)
        reports.append(replace(report, notes=_notes(e, evidence, settings)))
    return reports


def _report(
    e: Behaviour,
    others: Array,
    agreement: float | None,
    reason: str | None,
    settings: QualitySettings,
) -> RaterReport:
    """What is known of one rater.

    Args:
        e: What they did.
        others: How probably each shared verdict is right by the others'. (shared,)
        agreement: The share of meetings with others that agree.
        reason: Why they are to be quarantined whatever the others say.
        settings: Where the limits are.
    """
    mean, contrary = _posterior(others, _known(e, settings))
    return RaterReport(
        rater_id=e.rater_id,
        votes=e.votes,
        shared=len(others),
        agreement=agreement,
        gold_right=e.gold_right,
        gold_total=e.gold_total,
        left_share=e.left / e.sided if e.sided else None,
        fast_share=e.fast / e.timed if e.timed else None,
        reliability=_reliability(mean, e, settings),
        quarantine=reason or _contrariness(len(others), contrary, settings),
    )


def _contrariness(shared: int, contrary: float, settings: QualitySettings) -> str | None:
    if shared < settings.fewest_shared or contrary <= settings.contrary:
        return None
    return (
        f"contradicts the others on {shared} shared judgements "
        f"(probability of being contrary {contrary:.3f})"
    )


def _reliability(mean: float, e: Behaviour, settings: QualitySettings) -> float:
    """1 for whoever is right as often as expected, 0 for a coin or worse; fast choices count 0."""
    expected = settings.prior_right / (settings.prior_right + settings.prior_wrong)
    skill = (mean - 0.5) / (expected - 0.5)
    read = 1 - e.fast / (e.timed + settings.prior_wrong)
    return round(min(1.0, max(0.0, skill)) * read, 4)


# -- what a rater does by themselves ---------------------------------------------------------------


def _behaviour(e: Behaviour, all_of: Sequence[Behaviour], settings: QualitySettings) -> str | None:
    """Why a rater is to be quarantined whatever the others say."""
    if e.gold_total >= settings.fewest_gold and e.gold_right / e.gold_total < settings.gold_share:
        return f"right in only {e.gold_right} of {e.gold_total} gold questions"
    alarm = settings.false_alarms / len(all_of)
    side = max(e.left, e.sided - e.left)
    if (
        e.sided
        and side / e.sided >= settings.one_side
        and _p_of_side(e, usual_left(all_of)) < alarm
    ):
        return f"chose the {_side(e)} side in {side} of {e.sided} choices"
    if e.timed and binomtest(e.fast, e.timed, 0.5, alternative="greater").pvalue < alarm:
        return f"made {e.fast} of {e.timed} choices too fast to have read the replies"
    return _mechanical(e, settings)


def _mechanical(e: Behaviour, settings: QualitySettings) -> str | None:
    """What nobody does again and again who reads: one text for everything, too many votes."""
    if e.copies >= settings.fewest_copies and e.copies >= settings.copied_share * e.written:
        return _copying(e)
    return _hurrying(e) if e.bursts >= settings.fewest_bursts else None


def _copying(e: Behaviour) -> str:
    return f"wrote the same answer to {e.copies} of {e.written} different prompts"


def _hurrying(e: Behaviour) -> str:
    often = "" if e.bursts == 1 else f" on {e.bursts} occasions"
    return f"gave more than {MOST_VOTES} votes within {WITHIN_S:g} seconds{often}"


def _notes(e: Behaviour, all_of: Sequence[Behaviour], settings: QualitySettings) -> tuple[str, ...]:
    """What is no accident but may be honest, a habit or an upload: the comparisons stay."""
    notes = []
    bias = float(logit((e.left + 0.5) / (e.sided + 1)) - logit(usual_left(all_of)))
    alarm = settings.false_alarms / len(all_of)
    if abs(bias) > settings.position_bias and _p_of_side(e, usual_left(all_of)) < alarm:
        notes.append(f"prefers the {_side(e)} side: position bias {bias:+.2f} in log-odds")
    share = e.copies / e.written if e.copies >= settings.fewest_copies else 0.0
    if settings.noted_copied_share < share < settings.copied_share:
        notes.append(_copying(e))
    if 0 < e.bursts < settings.fewest_bursts:
        notes.append(_hurrying(e))
    return tuple(notes)


def usual_left(all_of: Sequence[Behaviour]) -> float:
    """The left side's usual share: 1/2 where sides are drawn by lot, but they may not have been."""
    shares = [e.left / e.sided for e in all_of if e.sided >= 10]
    return min(0.8, max(0.2, statistics.median(shares))) if len(shares) >= 3 else 0.5


def _p_of_side(e: Behaviour, usual: float) -> float:
    return float(binomtest(e.left, e.sided, usual).pvalue) if e.sided else 1.0


def _side(e: Behaviour) -> str:
    return "left" if 2 * e.left > e.sided else "right"


# -- what the others say ---------------------------------------------------------------------------


def _known(e: Behaviour, settings: QualitySettings) -> tuple[float, float]:
    """Judgements right and wrong by the prior and the gold questions."""
    wrong = e.gold_total - e.gold_right
    return settings.prior_right + e.gold_right, settings.prior_wrong + wrong


def _skills(
    votes: VoteArrays, evidence: Iterable[Behaviour], settings: QualitySettings
) -> dict[str, float]:
    """The probability that a rater is right, for those whose votes these are.

    Every judgement is entered both ways round, so that neither label means anything by itself.

    Source:
        Dawid and Skene 1979, https://doi.org/10.2307/2346806.
    """
    if not votes.raters:
        return {}
    known = {e.rater_id: _known(e, settings) for e in evidence}
    # Whoever judges alone would be right by definition, and the more so the more they judge alone.
    met = np.bincount(votes.what)[votes.what] > 1
    tasks = zip(votes.what[met].tolist(), votes.who[met].tolist(), votes.verdict[met], strict=True)
    rows = [(f"task {task}", votes.raters[who], verdict) for task, who, verdict in tasks]
    for rater in votes.raters:
        for verdict, count in zip((1.0, -1.0), known[rater], strict=True):
            rows += [(f"known {i} {verdict}", rater, verdict) for i in range(round(count))]
    rows += [(f"mirrored {task}", rater, -verdict) for task, rater, verdict in rows]
    data = pd.DataFrame(rows, columns=["task", "worker", "label"])
    answers = {task: 1.0 for task in data.task if task.startswith("known")}
    answers |= {task: -1.0 for task in data.task if task.startswith("mirrored known")}
    with warnings.catch_warnings():  # crowd-kit 1.4.2 speaks to pandas as one did before pandas 3
        warnings.simplefilter("ignore", DeprecationWarning)
        fitted = DawidSkene(tol=1e-4).fit(data, true_labels=pd.Series(answers))
    errors = fitted.errors_
    assert errors is not None
    return {rater: float(errors.loc[(rater, 1.0), 1.0]) for rater in votes.raters}


def _probabilities(
    votes: VoteArrays, skills: Mapping[str, float], settings: QualitySettings
) -> dict[str, Array]:
    """How probably each verdict is right by the other raters' verdicts, by rater.

    A subject that no other skilled rater judged is left out.
    """
    if not votes.raters:
        return {}
    skilled = np.array([rater in skills for rater in votes.raters])
    # Someone contrary is not believed the other way round: a vote against is not a vote for.
    weight = np.array([max(0.0, float(logit(skills.get(r, 0.5)))) for r in votes.raters])
    own = votes.verdict * weight[votes.who]
    odds = np.bincount(votes.what, own)[votes.what] - own  # log-odds of the first text, by others
    others = np.bincount(votes.what, skilled[votes.who])[votes.what] - skilled[votes.who]
    right = np.clip(
        expit(votes.verdict * odds), 1 - settings.consensus_at_best, settings.consensus_at_best
    )
    met = others > 0
    found: dict[str, list[float]] = {}
    for who, probability in zip(votes.who[met], right[met], strict=True):
        found.setdefault(votes.raters[who], []).append(probability)
    return {rater: np.array(probabilities) for rater, probabilities in found.items()}


_Q = (np.arange(200) + 0.5) / 200  # (grid,)


def _posterior(right: Array, known: tuple[float, float]) -> tuple[float, float]:
    """Mean of q, and the probability that it is below 1/2.

    Args:
        right: The probability that each shared verdict is right, by the others'. (shared,)
        known: Judgements right and wrong by the prior and the gold questions.
    """
    log_density = (known[0] - 1) * np.log(_Q) + (known[1] - 1) * np.log(1 - _Q)
    log_density += np.log(np.outer(_Q, right) + np.outer(1 - _Q, 1 - right)).sum(axis=1)
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    return float(density @ _Q), float(density[_Q < 0.5].sum())
