"""Promote or reject: pure functions from measurements to a verdict with reasons.

Fails closed: a measurement that is missing or not finite fails its check, and one failed check
rejects. The lower bound of the win rate has to show that the candidate is better; "no worse" is not
enough. A policy that collapsed to empty, endless, cut, repeated or stock replies is rejected
whatever its win rate. How often replies reach the longest length, and how they end, differs between
models and topics, so these signs are measured against the served policy on the same prompts. So
are probes, whose right replies no vote can move: whoever does worse on them is rejected, too.
The limits are `GateSettings` in `rlhf_core/config.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import norm

from rlhf_core.config import GateSettings
from rlhf_core.gate.evaluation import Accuracy, Evaluation
from rlhf_core.gate.probes.asking import ProbeCounts
from rlhf_core.gate.probes.packs import KINDS


@dataclass(frozen=True, slots=True)
class Check:
    """One measurement against its limit."""

    name: str
    value: float
    limit: float
    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer; `reasons` says in words what failed, and is empty for a promotion."""

    promote: bool
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for every failed check."""
        return tuple(c.text for c in self.checks if not c.passed)


def check_votes(
    reward: Accuracy, held_out_reward: Accuracy, settings: GateSettings
) -> tuple[Check, ...]:
    """Whether votes carry information: each half has to predict the other.

    The reward model is tested on held-out votes and on training votes that members left out, the
    held-out reward model on training votes. Votes count by how sure the prediction is, since few
    pairs of replies differ much in what raters care about. Both tests ask the same thing, whether
    votes of one half and of the other go together, so they are no two proofs: their normal scores
    are averaged, which is right even if they always agree.
    """
    # a test that drew 9,999 flips cannot be surer than one in 10,000
    scores = [norm.isf(min(max(m.chance, 1e-4), 1 - 1e-4)) for m in (reward, held_out_reward)]
    chance = float(norm.sf(sum(scores) / 2)) if all(map(math.isfinite, scores)) else math.nan
    said = (
        f"the reward model predicts {_predicted(reward)} and the held-out reward model "
        f"{_predicted(held_out_reward)}"
    )
    return (
        _at_most(
            "votes_chance",
            chance,
            settings.meaningless_votes,
            f"{said}; votes without a meaning would be predicted so well with probability "
            f"{chance:.2g}, and at most {settings.meaningless_votes:g} will do: collect more votes",
            said,
        ),
    )


def _predicted(found: Accuracy) -> str:
    return (
        f"{found.value:.0%} of {found.votes} votes that it has not seen ({found.by_rank:.0%} if "
        "its surer predictions count more)"
    )


def check_policy(evaluation: Evaluation, settings: GateSettings) -> tuple[Check, ...]:
    """Whether the candidate wins, stays near the base, and has not collapsed."""
    e, new = evaluation, evaluation.candidate
    max_kl = settings.kl_limit(e.tokens)
    return (
        _at_least(
            "held_out_prompts",
            e.prompts,
            settings.min_prompts,
            f"only {e.prompts} different held-out prompts, but {settings.min_prompts} are needed; "
            f"collect votes on other questions",
        ),
        _at_least(
            "win_rate_low",
            e.win_rate_low,
            settings.min_win_rate_low,
            f"{_preferred(e)}; more than {settings.min_win_rate_low:.0%} is needed to show that "
            f"it is better: collect more votes",
            _preferred(e),
            strict=True,
        ),
        *_same_length(e, settings.min_win_rate_low),
        _at_most(
            "kl",
            e.kl,
            max_kl,
            f"KL to the anchor is {e.kl:.1f} nats a response, above {max_kl:g}; roll back to an "
            f"earlier adapter, or, if the replies read well, name the served adapter as the anchor "
            f"(`feedback-chat adapters anchor`) or raise cycle.gate.max_kl",
        ),
        _at_most(
            "empty_rate",  # an empty reply is never right, whatever the served policy does
            new.empty_rate,
            settings.max_empty_rate,
            f"{_both(e, 'empty')} are empty, above {settings.max_empty_rate:.0%}",
        ),
        _increase(
            e,
            "unfinished_increase",
            settings.max_unfinished_increase,
            "do not end within reply.tokens",
        ),
        _increase(e, "cut_increase", settings.max_cut_increase, "end in mid-sentence"),
        _increase(e, "repeated_increase", settings.max_repeated_increase, "repeat themselves"),
        _variety(e, settings.max_same_rate),
    )


def check_probes(
    counts: Mapping[str, ProbeCounts], settings: GateSettings, *, liked: bool
) -> tuple[Check, ...]:
    """Whether the candidate does no worse on any kind of probe, whatever people like.

    A kind is tested at its share of the error rate, so that a candidate as good as the margin asks
    is rejected with at most about that probability by all kinds together (Bonferroni).

    Args:
        counts: By kind, every kind that was to be asked.
        settings: The margin and the error rate.
        liked: Whether the candidate's replies are shown to be preferred.
    """
    level = settings.probe_error_rate / max(1, len(counts))
    return tuple(_probe(kind, found, settings, level, liked) for kind, found in counts.items())


def decide(checks: Sequence[Check]) -> Verdict:
    """Promote only if there are checks and every one of them passed."""
    return Verdict(bool(checks) and all(c.passed for c in checks), tuple(checks))


def _increase(e: Evaluation, name: str, limit: float, what: str) -> Check:
    """Whether the candidate shows a sign clearly more often than the served policy."""
    sign = name.removesuffix("_increase")
    low = e.increases.get(sign, math.nan)
    return _at_most(
        name,
        low,
        limit,
        f"{_both(e, sign)} {what}: at least {100 * low:.3g} points more, above {100 * limit:g}",
        f"{_both(e, sign)} {what}",
    )


def _variety(e: Evaluation, limit: float) -> Check:
    """Whether different questions get different replies, or shared ones that fit each question."""
    said = f"{_both(e, 'same', 'of pairs of different questions')} got the same reply"
    if math.isfinite(e.fit_low):
        said += (
            f"; it fits its own question better than another one's reply in {e.fit:.0%} of cases "
            f"(lower bound {e.fit_low:.0%}, chance 50%)"
        )
    return _at_most(
        "same_rate",
        e.candidate.same_rate,
        limit,
        f"{said}; above {limit:.0%} replies have to heed the question, and these are not shown to",
        said,
        excused=e.fit_low > 0.5,
    )


def _probe(
    kind: str, found: ProbeCounts, settings: GateSettings, level: float, liked: bool
) -> Check:
    said = (
        f"{found.candidate_failed} of {found.asked}, "
        f"served policy {found.served_failed} of {found.asked}"
    )
    chance = found.chance(settings.probe_margin)
    failed = f"{'people liked it, but it' if liked else 'it'} {KINDS[kind]}: {said}"
    if not found.asked:
        failed = (
            f"none of {found.left_out} probes of {kind} fits the model; raise reply.prompt_tokens"
        )
    passed = chance >= level  # false for NaN
    return Check(
        f"probe_{kind}", chance, level, passed, f"{kind}: wrong in {said}" if passed else failed
    )


def _same_length(e: Evaluation, limit: float) -> tuple[Check, ...]:
    """Whether longer replies win by more than their length; shorter ones may be what people want.

    Length is what preferences are most easily gained by (Singhal et al. 2023, arXiv:2310.03716).
    """
    if e.same_length is None:  # nobody gave votes, which show how much length is liked
        return ()
    new, old = e.candidate.mean_tokens, e.served.mean_tokens
    said = (
        f"replies of {new:.0f} tokens in the mean (served policy: {old:.0f}); at the same length "
        f"{e.same_length.low:.0%} to {e.same_length.high:.0%} would be preferred"
    )
    failed = f"{said}, and more than {limit:.0%} is needed: they may be liked for their length"
    excused = new <= old
    passed = math.isfinite(e.same_length.low) and (excused or e.same_length.low > limit)
    return (_check("same_length_low", e.same_length.low, limit, passed, ">", failed, said),)


def _preferred(e: Evaluation) -> str:
    return (
        f"the candidate's reply is preferred in {e.win_rate_low:.0%} to {e.win_rate_high:.0%} of "
        f"{e.prompts} held-out questions"
    )


def _both(e: Evaluation, sign: str, of: str = "of replies") -> str:
    """The candidate's rate and the served policy's, in words."""
    new, old = (getattr(policy, f"{sign}_rate") for policy in (e.candidate, e.served))
    return f"{new:.0%} {of} (served policy: {old:.0%})"


def _at_least(
    name: str,
    value: float,
    limit: float,
    failed: str,
    passed_text: str | None = None,
    *,
    strict: bool = False,
) -> Check:
    passed = math.isfinite(value) and (value > limit if strict else value >= limit)
    return _check(name, value, limit, passed, ">" if strict else ">=", failed, passed_text)


def _at_most(
    name: str,
    value: float,
    limit: float,
    failed: str,
    passed_text: str | None = None,
    *,
    excused: bool = False,
) -> Check:
    passed = math.isfinite(value) and (value <= limit or excused)
    return _check(name, value, limit, passed, "<=", failed, passed_text)


def _check(
    name: str,
    value: float,
    limit: float,
    passed: bool,
    sign: Literal[">", ">=", "<="],
    failed: str,
    passed_text: str | None = None,
) -> Check:
    if not math.isfinite(value):
        failed = f"{name} could not be measured"
    said = passed_text or f"{name.replace('_', ' ')} {value:.3g} {sign} {limit:g}"
    return Check(name, value, limit, passed, said if passed else failed)
