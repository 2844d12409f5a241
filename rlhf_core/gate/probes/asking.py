"""Ask candidate and served policy the same probes, and test whether the candidate does worse.

Both answer with the contract, as people are answered. Nothing here knows votes or scores. A kind
whose probes do not fit the contract is not measured, and what is not measured fails (`checks.py`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import norm

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes.packs import KINDS, Probe
from rlhf_core.model.base_model import Base
from rlhf_core.records import Prompt

SAMPLES = 2  # kept of a kind


@dataclass(frozen=True, slots=True)
class ProbeSample:
    """One probe that comes with the program, and what both policies replied.

    No visitor's words are in it, so it can be shown to everybody. The first probes of a kind are
    taken, whatever the replies are: the same ones in every cycle.
    """

    prompt: Prompt
    candidate: str
    candidate_right: bool
    served: str
    served_right: bool


@dataclass(frozen=True, slots=True)
class ProbeCounts:
    """How both policies did on the probes of one kind.

    Attributes:
        asked: Probes that fit the contract.
        left_out: Those that do not.
        candidate_failed: Failed by the candidate.
        served_failed: Failed by the served policy.
        lost: Failed by the candidate alone; the others are failed by both, or by the served one.
        samples: A few of those that come with the program.
    """

    asked: int
    left_out: int = 0
    candidate_failed: int = 0
    served_failed: int = 0
    lost: int = 0
    samples: tuple[ProbeSample, ...] = ()

    def chance(self, margin: float) -> float:
        """Probability of losing so many, if the candidate fails more often by just the margin.

        Args:
            margin: Difference between the shares of failed probes that is put up with, in [0, 1).

        Returns:
            In [0, 1]; NaN without probes.

        Source:
            Tango 1998, Statistics in Medicine 17:891, the score test for the difference of paired
            proportions, which holds its level in small samples where Wald's does not; with a margin
            of 0 it is McNemar's.
        """
        n, lost = self.asked, self.lost
        won = lost + self.served_failed - self.candidate_failed  # failed by the served one alone
        if n <= 0:
            return math.nan
        # The probability of a won probe that is likeliest if the difference is the margin.
        b, c = -lost - won + (2 * n - lost + won) * margin, -won * margin * (1 - margin)
        likeliest = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * likeliest + margin * (1 - margin))
        more = lost - won - n * margin
        if variance <= 0:  # no margin, and both policies failed the same probes
            return 1.0
        return float(norm.sf(more / math.sqrt(variance)))


def ask_probes(
    base: Base,
    probes: Sequence[Probe],
    *,
    candidate: str | None,
    served: str | None,
    progress: Callable[[float], None] | None = None,
    seed: int = 0,
) -> dict[str, ProbeCounts]:
    """The counts of each kind, in the order of `KINDS`.

    Args:
        base: The base with both adapters attached.
        probes: What is asked; each policy replies once to each.
        candidate: Adapter that wants to be served.
        served: Adapter that is being served; `None` is the bare base.
        progress: Called with the share of the work that is done.
        seed: Of the sampling, the same for both.
    """
    asked = [probe for probe in probes if _fits(base, probe)]
    said: list[list[str]] = []
    for done, adapter in enumerate((candidate, served), start=1):
        replies = base.respond([probe.prompt for probe in asked], adapter=adapter, seed=seed)
        said.append([reply.text for reply in replies])
        if progress:
            progress(done / 2)
    found = [
        (probe, ProbeSample(probe.prompt, new, probe.passed_by(new), old, probe.passed_by(old)))
        for probe, new, old in zip(asked, *said, strict=True)
    ]
    counts = {}
    for kind in KINDS:
        ours = [(probe, sample) for probe, sample in found if probe.kind == kind]
        if written := sum(probe.kind == kind for probe in probes):
            counts[kind] = _counted(ours, written - len(ours))
    return counts


def _counted(found: Sequence[tuple[Probe, ProbeSample]], left_out: int) -> ProbeCounts:
    """The counts of one kind."""
    samples = [sample for _, sample in found]
    return ProbeCounts(
        asked=len(samples),
        left_out=left_out,
        candidate_failed=sum(not one.candidate_right for one in samples),
        served_failed=sum(not one.served_right for one in samples),
        lost=sum(one.served_right and not one.candidate_right for one in samples),
        samples=tuple(sample for probe, sample in found if probe.packaged)[:SAMPLES],
    )


def probe_metrics(counts: Mapping[str, ProbeCounts]) -> dict[str, float]:
    """Flat metrics by kind: how many were asked, and the shares of right replies of both."""
    metrics: dict[str, float] = {}
    for kind, found in counts.items():
        if found.asked:
            metrics[f"probe_asked/{kind}"] = float(found.asked)
            metrics[f"probe/{kind}"] = round(1 - found.candidate_failed / found.asked, 4)
            metrics[f"probe_served/{kind}"] = round(1 - found.served_failed / found.asked, 4)
    metrics["probes"] = float(sum(found.asked for found in counts.values()))
    metrics["probes_left_out"] = float(sum(found.left_out for found in counts.values()))
    return metrics


def _fits(base: Base, probe: Probe) -> bool:
    """Whether the model reads the whole conversation; without its first turns it is another one."""
    try:
        fitting = base.chat.fit_prompt(probe.prompt)
    except InvalidInputError:  # its chat template refuses it
        return False
    return fitting is not None and len(fitting) == len(probe.prompt)
