"""What a cycle leaves behind for people: flat metrics, and `report.json` for the operator page.

Nothing here measures or decides.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from feedback_store import Alarm
from rlhf_core.gate.checks import Verdict
from rlhf_core.gate.evaluation import Accuracy, Evaluation
from rlhf_core.gate.probes.asking import ProbeCounts


def flat_metrics(
    reward: Accuracy, held_out_reward: Accuracy, evaluation: Evaluation | None
) -> dict[str, float]:
    """The measurements of a cycle, flat, by name."""
    metrics = {
        "reward_accuracy": reward.value,
        "reward_accuracy_low": reward.low,
        "reward_by_rank": reward.by_rank,
        "reward_by_rank_low": reward.by_rank_low,
        "reward_chance": reward.chance,
        "judge_accuracy": held_out_reward.value,  # the names since 0.1.0
        "judge_accuracy_low": held_out_reward.low,
        "held_out_reward_by_rank": held_out_reward.by_rank,
        "held_out_reward_by_rank_low": held_out_reward.by_rank_low,
        "held_out_reward_chance": held_out_reward.chance,
    }
    if evaluation:
        metrics |= {
            "win_rate": evaluation.win_rate,
            "win_rate_low": evaluation.win_rate_low,
            "win_rate_high": evaluation.win_rate_high,
            "win_rate_question_error": evaluation.question_error,
            "win_rate_member_error": evaluation.member_error,
            "kl": evaluation.kl,
        }
        if equal := evaluation.same_length:
            metrics |= {
                "win_rate_same_length": equal.value,
                "win_rate_same_length_low": equal.low,
                "win_rate_same_length_high": equal.high,
            }
        for name in ("candidate", "served"):
            metrics |= {f"{name}/{k}": v for k, v in asdict(getattr(evaluation, name)).items()}
        if math.isfinite(evaluation.fit):  # asked only if many questions got the same reply
            metrics |= {"fit": evaluation.fit, "fit_low": evaluation.fit_low}
    return {k: round(v, 4) for k, v in metrics.items()}


def curve_metrics(curves: Mapping[str, Mapping[float, float]]) -> dict[str, float]:
    """The score and the entropy per token with which PPO began and ended.

    Each is the mean over an eighth of the iterations.

    Args:
        curves: By metric, its value by the fraction of the stage; tokens are `val/length`.
    """
    names = ("objective/scores", "objective/entropy", "val/length")
    scores, entropy, tokens = (list(curves.get(name, {}).values()) for name in names)
    n = max(1, len(scores) // 8)
    if not scores or sum(tokens[:n]) == 0 or sum(tokens[-n:]) == 0:
        return {}
    found = {
        "policy/score_first": statistics.fmean(scores[:n]),
        "policy/score_last": statistics.fmean(scores[-n:]),
        "policy/entropy_first": sum(entropy[:n]) / sum(tokens[:n]),  # nats per token
        "policy/entropy_last": sum(entropy[-n:]) / sum(tokens[-n:]),
    }
    return {name: round(value, 4) for name, value in found.items()}


def budget_spent(budget: float, ended: str, *, served: str, anchor: str) -> str:
    """Why PPO ended early, and what an operator can do: one sentence.

    Args:
        budget: The KL budget in nats a reply.
        ended: When PPO ended, in words.
        served: The served policy.
        anchor: The policy that the budget counts from.
    """
    mend = "raise cycle.policy.kl_budget"
    if served != anchor:
        mend = f"count from it by `feedback-chat adapters anchor {served}`, or {mend}"
    return (
        f"the KL budget of {budget:g} nats a reply is spent {ended}: the policy may not move "
        f"further from {anchor}; if the replies of {served} read well, {mend}"
    )


def write_report(  # noqa: PLR0913 - everything by name
    path: Path,
    verdict: Verdict,
    *,
    served: str,
    remarks: Sequence[str],
    alarms: Sequence[Alarm],
    metrics: Mapping[str, float],
    evaluation: Evaluation | None,
    probed: Mapping[str, ProbeCounts],
    curves: Mapping[str, Sequence[float]],
) -> None:
    """Write everything that pages show about one cycle.

    `samples` quote people, so they are for the operator; `probe_samples` quote nobody.
    """
    e = evaluation
    report: dict[str, Any] = {
        "promote": verdict.promote,
        "served": served,
        "metrics": dict(metrics),
        "reasons": list(verdict.reasons),
        "remarks": list(remarks),
        "alarms": [asdict(alarm) for alarm in alarms],
        "checks": [asdict(c) for c in verdict.checks],
        "samples": list(e.samples) if e else [],
        "probe_samples": [
            {"kind": kind, **asdict(sample)}
            for kind, counts in probed.items()
            for sample in counts.samples
        ],
        "plots": {
            "scores_served": list(e.scores_served) if e else [],
            "scores_candidate": list(e.scores_candidate) if e else [],
            "kl_per_iteration": list(curves.get("objective/kl", [])),
            "score_per_iteration": list(curves.get("objective/scores", [])),
        },
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
