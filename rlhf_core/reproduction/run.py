"""A run of the experiment: the stages that the claims need, and the verdicts.

All is kept in one directory, by seed; claims are computed from what is there. A run that was killed
goes on where it was. Invariant: the claims are read once, before anything runs, and a result says
if their file was another when the run began, or is another when it ends.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from rlhf_core.errors import InvalidInputError
from rlhf_core.reproduction.claims import (
    ClaimResult,
    claims_hash,
    claims_text,
    decide,
    load_claims,
    skipped,
)
from rlhf_core.reproduction.experiment import experiment, plans
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.profiles import SEEDS, ReproductionProfile
from rlhf_core.reproduction.stages import KeptStages, StageReport, run_stages, write_whole
from rlhf_core.worlds.miniature.build import parameters_of

STARTED, LOCK = "started.json", ".lock"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One run: what it was, and what was found of every claim, skipped ones too.

    Attributes:
        profile: Its profile.
        seeds: Its seeds.
        claims_sha256: Hash of the claims' file, as it was read before anything ran.
        bars_changed: Whether that file was another when the run began, or is another at its end.
        started: When the run began; later calls in the same directory go on with it.
        cpu_seconds: What each stage took of one processor, added up over seeds.
        parameters: Of each base, by its stage.
        results: By claim, in the order of the file.
    """

    profile: ReproductionProfile
    seeds: tuple[int, ...]
    claims_sha256: str
    bars_changed: bool
    started: str
    cpu_seconds: dict[str, float]
    parameters: dict[str, int]
    results: tuple[ClaimResult, ...]


def reproduce(
    profile: ReproductionProfile,
    directory: Path,
    *,
    claims: Sequence[int],
    seeds: int = 1,
    report: StageReport,
) -> Reproduction:
    """Run what the claims need, as far as it is not in the directory, and measure them.

    Args:
        profile: How much of everything.
        directory: Where everything is kept.
        claims: Numbers of the claims to measure.
        seeds: How many seeds; the first of `SEEDS`.
        report: Called with a stage, the share of it that is done, and metrics.

    Raises:
        InvalidInputError: There are not so many seeds, or another run is in the directory.
        RLHFError: A stage failed.
    """
    if not 1 <= seeds <= len(SEEDS):
        raise InvalidInputError(f"seeds cannot be {seeds}; use 1 to {len(SEEDS)}")
    text = claims_text()
    folder = directory / profile.name
    with _alone_in(folder):
        started, then = _begin(folder, claims_hash(text))
        stages = experiment(profile)
        kept = [KeptStages.of(stages, profile, seed, folder) for seed in SEEDS[:seeds]]
        planned = {n: plan for n, plan in plans(profile).items() if n in claims}
        needed = sorted({need for plan in planned.values() for need in plan.needs})
        run_stages(kept, needed, report)
        judged = JudgedPolicies(kept)
        results = []
        for claim in load_claims(text):
            if claim.number in planned:
                results.append(decide(claim, planned[claim.number].measure(judged)))
            else:
                results.append(skipped(claim, "not asked for"))
    every = sorted({name for one in kept for name in one.wanted(needed)})
    facts = {name: judged.facts(name) for name in every}
    return Reproduction(
        profile,
        SEEDS[:seeds],
        claims_hash(text),
        len({then, claims_hash(text), claims_hash(claims_text())}) > 1,
        started,
        {name: sum(one["cpu_seconds"] for one in rows) for name, rows in facts.items()},
        {name: rows[0]["parameters"] for name, rows in facts.items() if "parameters" in rows[0]}
        or {"base": parameters_of(profile.policy)},
        tuple(results),
    )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder: they would write into the same unfinished stages."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise InvalidInputError(
            f"another run is at work in {folder}; wait for its end, or use another directory"
        ) from None


def _begin(folder: Path, claims_sha256: str) -> tuple[str, str]:
    """When the run in this folder began, and the hash of the claims then."""
    file = folder / STARTED
    if not file.exists():
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_whole(file, json.dumps({"started": now, "claims_sha256": claims_sha256}))
    begun = json.loads(file.read_text())
    return str(begun["started"]), str(begun["claims_sha256"])
