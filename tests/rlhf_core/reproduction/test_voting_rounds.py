"""Rounds of votes and training on a model that babbles: the code runs, and each goes on."""

from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_core.reproduction.claims import decide, load_claims
from rlhf_core.reproduction.experiment import experiment, plans
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.policies import read_votes
from rlhf_core.reproduction.profiles import CI, CPU, GPU, ReproductionProfile
from rlhf_core.reproduction.stages import KeptStages, run_stages
from rlhf_core.reproduction.voting_rounds import (
    AFTER,
    FRESH,
    MODELS,
    STALE,
    VOTED_ON,
    round_members,
)

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


@pytest.mark.parametrize(("profile", "members"), [(CI, 1), (CPU, 2), (GPU, 3)])
def test_a_round_has_half_of_the_members_rounded_up(
    profile: ReproductionProfile, members: int
) -> None:
    assert round_members(profile) == members
    stages = {stage.name: stage for stage in experiment(profile)}
    assert {stages[f"round-{n}-reward"].options["members"] for n in (1, 2, 3)} == {members}


def test_the_last_round_learns_from_votes_on_the_policy_that_it_begins_with() -> None:
    stages = {stage.name: stage for stage in experiment(CI)}
    assert stages[AFTER].options["start"] == VOTED_ON and stages[AFTER].options["reward"] == FRESH
    assert VOTED_ON in stages[f"{AFTER}-samples"].needs
    votes = {model: {n for n in stages[model].needs if "votes" in n} for model in (STALE, FRESH)}
    assert len(votes[STALE]) == 1 and len(votes[FRESH]) == 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_rounds_and_an_attack_from_nothing_to_figures(tmp_path: Path) -> None:
    kept, rounds = KeptStages.of(experiment(TINY), TINY, SEED, tmp_path), plans(TINY)[11]
    attack = ["hostile-30-equal-votes", "hostile-30-agreement-votes", "hostile-30-agreement-reward"]
    run_stages([kept], [*rounds.needs, *attack], lambda *_: None)
    for number in (1, 2, 3):
        assert kept.facts(f"round-{number}")["iterations"] == TINY.iterations // 2
        votes, _ = read_votes(kept.folder(f"round-{number}-votes"))
        assert votes and all((c.group or "").startswith(f"{number}/") for c in votes)
    pairs = kept.facts("round-pairs")
    assert {len(row) for row in pairs["pairs"].values()} == {TINY.test}
    assert all(row.keys() == set(MODELS) for row in pairs["probabilities"].values())
    decided = decide(load_claims()[10], rounds.measure(JudgedPolicies([kept])))
    assert decided.decision in ("met", "not met")  # so no figure of a bar is missing
    same, weighed = (read_votes(kept.folder(name))[0] for name in attack[:2])
    assert same == [replace(c, weight=1.0) for c in weighed] != weighed
    assert len(kept.facts(attack[2])["probabilities"]) == TINY.test
