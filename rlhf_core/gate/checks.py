"""Promote or reject: pure functions from measurements to a verdict with reasons.

Fails closed: a measurement that is missing or not finite fails its check, and one failed check
rejects. The lower bound of the win rate has to show that the candidate is better; "no worse" is not
enough. A policy that collapsed to empty, cut or repeated replies is rejected whatever its win rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf_core.config import GateSettings
from rlhf_core.gate.evaluation import Accuracy, Evaluation


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


def check_votes(reward: Accuracy, held_out_reward: Accuracy) -> tuple[Check, ...]:
    """Whether votes carry information: each half has to predict the other.

    The reward model is tested on held-out votes, the held-out reward model on training votes.
    Random votes pass each test about once in twenty times, and both very rarely.
    """
    tests = (
        ("reward_accuracy_low", "reward model", reward),
        ("judge_accuracy_low", "held-out reward model", held_out_reward),  # its name since 0.1.0
    )
    return tuple(
        _at_least(
            name,
            found.low,
            0.5,
            f"the {model} predicts {found.value:.0%} of {found.votes} unseen votes "
            f"(lower bound {found.low:.0%}); that may be chance",
            strict=True,
        )
        for name, model, found in tests
    )


def check_policy(evaluation: Evaluation, settings: GateSettings) -> tuple[Check, ...]:
    """Whether the candidate wins, stays near the base, and has not collapsed."""
    e, new, old = evaluation, evaluation.candidate, evaluation.served
    distinct = new.distinct_rate / old.distinct_rate if old.distinct_rate else math.nan
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
            f"win rate {e.win_rate:.0%} on {e.replies} held-out replies "
            f"(lower bound {e.win_rate_low:.0%}) does not show that the candidate is better",
            strict=True,
        ),
        _at_most(
            "kl",
            e.kl,
            max_kl,
            f"KL to the anchor is {e.kl:.1f} nats a response, above {max_kl:g}; roll back to an "
            f"earlier adapter, or, if the replies read well, name the served adapter as the anchor "
            f"(`feedback-chat adapters anchor`) or raise cycle.gate.max_kl",
        ),
        _rate("empty", new.empty_rate, settings.max_empty_rate, "are empty"),
        # absolute limits: a bad served policy must not make them easier to meet
        _rate("unfinished", new.unfinished_rate, settings.max_unfinished_rate, "never end"),
        _rate("cut", new.cut_rate, settings.max_cut_rate, "end in mid-sentence"),
        _rate("repeated", new.repeated_rate, settings.max_repeated_rate, "repeat themselves"),
        _at_least(
            "distinct_ratio",
            distinct,
            settings.min_distinct_ratio,
            f"the candidate gives only {distinct:.0%} as many different replies as the served one",
        ),
    )


def decide(checks: Sequence[Check]) -> Verdict:
    """Promote only if there are checks and every one of them passed."""
    return Verdict(bool(checks) and all(c.passed for c in checks), tuple(checks))


def _rate(name: str, value: float, limit: float, what: str) -> Check:
    return _at_most(
        f"{name}_rate", value, limit, f"{value:.0%} of replies {what}, above {limit:.0%}"
    )


def _at_least(name: str, value: float, limit: float, failed: str, *, strict: bool = False) -> Check:
    passed = math.isfinite(value) and (value > limit if strict else value >= limit)
    return _check(name, value, limit, passed, ">" if strict else ">=", failed)


def _at_most(name: str, value: float, limit: float, failed: str) -> Check:
    return _check(name, value, limit, math.isfinite(value) and value <= limit, "<=", failed)


def _check(
    name: str, value: float, limit: float, passed: bool, sign: Literal[">", ">=", "<="], failed: str
) -> Check:
    if not math.isfinite(value):
        failed = f"{name} could not be measured"
    words = name.replace("_", " ")
    return Check(
        name, value, limit, passed, f"{words} {value:.3g} {sign} {limit:g}" if passed else failed
    )
