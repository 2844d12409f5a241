"""A cycle's report as the operator page shows it, read from ``data/cycles/NNNNNN/report.json``.

Invariant: reading never raises, whatever is in the file. A cycle that failed half-way has no report
or a partial one, and the page must still open. Values of the wrong type are left out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One condition of the gate: what was measured, the limit, and whether it passed."""

    name: str
    value: float | None
    limit: float | None
    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out prompt with the reply of the served adapter and the candidate's."""

    prompt: str
    served: str
    candidate: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a prompt."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ProbeReplies:
    """One packaged probe with both replies, and whether each is right; it quotes no visitor."""

    kind: str
    prompt: tuple[Turn, ...]
    served: str
    served_right: bool
    candidate: str
    candidate_right: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What the evaluation of one cycle found."""

    metrics: Mapping[str, float]
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    alarms: tuple[str, ...]
    checks: tuple[CheckRow, ...]
    samples: tuple[Sample, ...]
    probe_samples: tuple[ProbeReplies, ...]
    scores_served: tuple[float, ...]
    scores_candidate: tuple[float, ...]
    kl_per_iteration: tuple[float, ...]
    score_per_iteration: tuple[float, ...]


def read_report(data: Path, cycle_id: int) -> Report | None:
    """The report of one cycle, or None if the cycle wrote none."""
    path = data / "cycles" / f"{cycle_id:06d}" / "report.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return parse_report(content) if isinstance(content, dict) else None


def parse_report(content: Mapping[str, Any]) -> Report:
    """The well-formed parts of a report's JSON."""
    plots = content.get("plots")
    plots = plots if isinstance(plots, dict) else {}
    metrics = content.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    return Report(
        metrics={str(name): float(n) for name, n in metrics.items() if _is_number(n)},
        reasons=tuple(str(reason) for reason in _list(content.get("reasons"))),
        remarks=tuple(str(remark) for remark in _list(content.get("remarks"))),
        alarms=tuple(
            str(alarm.get("text", ""))
            for alarm in _list(content.get("alarms"))
            if isinstance(alarm, dict)
        ),
        checks=tuple(_check(c) for c in _list(content.get("checks")) if isinstance(c, dict)),
        samples=tuple(_sample(s) for s in _list(content.get("samples")) if isinstance(s, dict)),
        probe_samples=tuple(
            _probe_sample(s) for s in _list(content.get("probe_samples")) if isinstance(s, dict)
        ),
        scores_served=_numbers(plots.get("scores_served")),
        scores_candidate=_numbers(plots.get("scores_candidate")),
        kl_per_iteration=_numbers(plots.get("kl_per_iteration")),
        score_per_iteration=_numbers(plots.get("score_per_iteration")),
    )


def _check(content: Mapping[str, Any]) -> CheckRow:
    value, limit = content.get("value"), content.get("limit")
    return CheckRow(
        name=str(content.get("name", "")),
        value=float(value) if _is_number(value) else None,
        limit=float(limit) if _is_number(limit) else None,
        passed=content.get("passed") is True,
        text=str(content.get("text", "")),
    )


def _sample(content: Mapping[str, Any]) -> Sample:
    return Sample(*(str(content.get(key, "")) for key in ("prompt", "served", "candidate")))


def _probe_sample(content: Mapping[str, Any]) -> ProbeReplies:
    kind, served, candidate = (str(content.get(key, "")) for key in ("kind", "served", "candidate"))
    turns = (turn for turn in _list(content.get("prompt")) if isinstance(turn, dict))
    return ProbeReplies(
        kind=kind,
        prompt=tuple(Turn(str(t.get("role", "")), str(t.get("content", ""))) for t in turns),
        served=served,
        served_right=content.get("served_right") is True,
        candidate=candidate,
        candidate_right=content.get("candidate_right") is True,
    )


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in _list(value) if _is_number(number))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
