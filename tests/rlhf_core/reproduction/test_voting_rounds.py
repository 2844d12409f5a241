"""Rounds of votes and training on a model that babbles: the code runs, and each goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_core.reproduction.experiment import experiment, plans
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.policies import read_votes
from rlhf_core.reproduction.profiles import CI
from rlhf_core.reproduction.stages import KeptStages, run_stages
from rlhf_core.reproduction.voting_rounds import MODELS

SEED = 7
TINY = replace(
    CI,
    steps=30,
    demonstrations=30,
    sft_epochs=1,
    ranked_prompts=40,
    labelers=8,
    iterations=2,
    batch=8,
    ppo_prompts=20,
    texts=20,
    validation=8,
    test=20,
    items=4,
    calibrated=False,  # it gives labelers too little to agree on
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_rounds_and_attackers_from_nothing_to_figures(tmp_path: Path) -> None:
    kept = KeptStages.of(experiment(TINY), TINY, SEED, tmp_path)
    planned = {number: plans(TINY)[number] for number in (11, 12)}
    run_stages([kept], [need for plan in planned.values() for need in plan.needs], lambda *_: None)
    found = {n: plan.measure(JudgedPolicies([kept])) for n, plan in planned.items()}
    for number in (1, 2, 3):
        assert kept.facts(f"round-{number}")["iterations"] == TINY.iterations // 2
        votes, _ = read_votes(kept.folder(f"round-{number}-votes"))
        assert votes and all((c.group or "").startswith(f"{number}/") for c in votes)
    pairs = kept.facts("round-pairs")
    assert {len(row) for row in pairs["pairs"].values()} == {TINY.test}
    assert all(row.keys() == set(MODELS) for row in pairs["probabilities"].values())
    for number, first in ((11, "last round over the start"), (12, "by agreement at 15%")):
        assert next(iter(found[number].figures)).startswith(first)
    assert "loss of a stale reward model" in found[11].figures
    same = json.loads((kept.folder("hostile-30-equal-votes") / "votes.json").read_text())
    weighed = json.loads((kept.folder("hostile-30-agreement-votes") / "votes.json").read_text())
    assert same["comparisons"] == weighed["comparisons"] and set(same["weights"]) == {1.0}
