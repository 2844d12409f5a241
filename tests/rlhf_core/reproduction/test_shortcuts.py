"""The shortcuts that would make the claims worthless, each excluded."""

import ast
import inspect
import itertools
import random
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import rlhf_core.reproduction.labelling as labelling
from rlhf_core.errors import InvalidInputError
from rlhf_core.model.base_model import Base, Response
from rlhf_core.model.loading import load_base
from rlhf_core.reproduction import answering, policies, voting_rounds
from rlhf_core.reproduction.answering import test_set as asked_of
from rlhf_core.reproduction.claims import load_claims
from rlhf_core.reproduction.experiment import experiment, plans
from rlhf_core.reproduction.labelling import fold_of, people_of, wins
from rlhf_core.reproduction.profiles import CI, CPU, GPU, ReproductionProfile
from rlhf_core.reproduction.report import NOT_QUOTED, SYNTHETIC, headline
from rlhf_core.reproduction.run import SEEDS, Reproduction
from rlhf_core.reproduction.stages import Work
from rlhf_core.worlds.miniature.build import SIZES, build, parameters_of
from rlhf_core.worlds.miniature.labelers import ShownPair, labelers
from rlhf_core.worlds.miniature.replies import constant_reply, demonstration
from rlhf_core.worlds.miniature.world import requests
from rlhf_core.worlds.starter.corpus import ASSISTANT, USER
from tests.test_architecture import reachable

PROFILES = (CI, CPU, GPU)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    path = tmp_path_factory.mktemp("nano")
    build(path, "nano", steps=1, seed=7, least_cloze=0)
    return load_base(str(path), quantization="none", device="cpu")


PACKAGE = "rlhf_core.reproduction"


def test_nothing_that_trains_or_chooses_can_reach_the_judge_or_a_labeler() -> None:
    behind = {"rlhf_core.worlds.miniature.judge", "rlhf_core.worlds.miniature.labelers"}
    for module in ("policies", "answering", "voting_rounds", "rater_weights", "stages", "profiles"):
        assert not behind & reachable(f"{PACKAGE}.{module}"), module
    assert behind <= reachable(f"{PACKAGE}.labelling")


def test_training_and_test_share_no_subject_no_wording_and_no_customer() -> None:
    trained = [
        request
        for split in ("demonstrations", "train", "validation")
        for request in requests(400, seed=SEEDS[0], split=split)  # type: ignore[arg-type]
    ]
    tested = [request for name in answering.SETS for request in asked_of(name, 200, SEEDS[0])]
    assert not {r.user for r in trained} & {r.user for r in tested}
    assert not {r.subject for r in trained if r.subject} & {r.subject for r in tested if r.subject}
    assert not {r.text for r in trained} & {r.text for r in tested if r.subject}


def test_facts_of_written_answers_are_in_no_prompt_of_the_reward_model_or_of_ppo() -> None:
    written = {r.subject for r in requests(400, seed=SEEDS[0], split="demonstrations") if r.topic}
    prompted = {r.subject for r in requests(400, seed=SEEDS[0], split="train") if r.topic}
    assert written and prompted and not written & prompted


def test_judges_of_a_claim_made_no_training_data() -> None:
    train, held_out = (labelers(32, seed=SEEDS[0], group=g) for g in ("train", "held out"))  # type: ignore[arg-type]
    assert not {who.name for who in train} & {who.name for who in held_out}


def test_a_fold_leaves_out_whole_labelers_and_each_once() -> None:
    people = labelers(32, seed=1, group="train")
    left_out = [who.name for k in range(labelling.FOLDS) for who in fold_of(people, k)[1]]
    assert sorted(left_out) == sorted(who.name for who in people)
    group, out = fold_of(people, 0)
    assert not {who.name for who in group} & {who.name for who in out}


def test_only_test_requests_are_judged_and_only_validation_requests_choose() -> None:
    splits = {
        keyword.value.value  # type: ignore[attr-defined]
        for name in (answering.test_set, answering.validation)
        for call in ast.walk(ast.parse(inspect.getsource(name)))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "split"
    }
    assert splits == {"test", "validation"}
    for chooses in (answering.choose_prefix, answering._best_temperature):
        assert "validation(given)" in inspect.getsource(chooses)
        assert "test_set" not in inspect.getsource(chooses)


@pytest.mark.parametrize("module", [policies, voting_rounds], ids=lambda module: module.__name__)
def test_policies_never_see_a_test_request_while_they_train(module: ModuleType) -> None:
    assert "test" not in {
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Constant)
    }


def drawn_prompts(profile: ReproductionProfile, seed: int) -> dict[str, set[str]]:
    """What is asked in each round and in the stages without rounds: to be ranked, and of PPO."""
    found = {
        f"votes of round {number}": voting_rounds.round_requests(profile, seed, number)
        for number in voting_rounds.ROUNDS
    }
    for number in (0, *voting_rounds.ROUNDS):
        found[f"PPO of round {number}"] = policies.ppo_requests(profile, seed, number)
    found["votes"] = requests(profile.ranked_prompts, seed=seed, split="train")
    return {name: {request.text for request in asked} for name, asked in found.items()}


@pytest.mark.parametrize("profile", (CI, CPU), ids=lambda profile: profile.name)
def test_each_round_has_prompts_of_its_own(profile: ReproductionProfile) -> None:
    for (one, asked), (other, also) in itertools.combinations(
        drawn_prompts(profile, SEEDS[0]).items(), 2
    ):
        # the same seed would give all; two draws from the world have up to two fifths in common
        assert len(asked & also) < min(len(asked), len(also)) / 2, f"{one}, {other}"


def test_each_round_says_which_it_is_and_goes_on_from_the_one_before() -> None:
    stages = {stage.name: stage for stage in experiment(CI)}
    for number in voting_rounds.ROUNDS:
        made = [stages[f"round-{number}{part}"] for part in ("-samples", "-votes", "-reward", "")]
        assert {stage.options["round"] for stage in made} == {number}
        assert made[-1].options["start"] == voting_rounds.start_of(number)
        assert made[-1].options["reward"] == f"round-{number}-reward"
    assert 'given.options.get("round"' in inspect.getsource(policies.optimise)


def test_a_stale_reward_model_is_measured_on_subjects_that_no_reward_model_knows() -> None:
    learnt = {r.subject for n in (1, 2, 3) for r in voting_rounds.round_requests(CPU, SEEDS[0], n)}
    tested = {r.subject for r in policies.paired_requests(CPU, SEEDS[0]) if r.topic}
    assert tested and not tested & learnt


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_all_policies_answer_the_same_prompts_at_the_same_temperatures(profile) -> None:  # type: ignore[no-untyped-def]
    answered = [s for s in experiment(profile) if s.work is answering.answer and not s.line]
    assert {"answers-base", "answers-prompted", "answers-ptx"} <= {s.name for s in answered}
    assert all("sets" not in s.options and "reward" in s.needs for s in answered)


@pytest.mark.parametrize("profile", (CPU, GPU), ids=lambda profile: profile.name)
def test_the_large_base_reads_as_many_tokens_as_the_small_one(profile) -> None:  # type: ignore[no-untyped-def]
    assert profile.steps is None  # the world's own number for each size
    assert SIZES[profile.large].steps >= SIZES[profile.small].steps
    assert profile.least_cloze >= 0.95  # or truth would be chance


def test_the_base_that_is_aligned_has_to_know_the_marks_and_the_others_do_not() -> None:
    bases = {s.name: s.options for s in experiment(CPU) if s.work is policies.pretrain}
    assert CPU.least_marked > 0.5 and "least_marked" not in bases["base"]
    assert bases["small-base"]["least_marked"] == bases["large-base"]["least_marked"] == 0


@pytest.mark.parametrize(
    ("drawn", "kept", "ended"),
    [
        ("It is Lima.", "It is Lima.", False),
        (f"It is Lima.{USER}What is red?{ASSISTANT}Snow.", "It is Lima.", True),
        ("It is Lima.\nIt is Rome.", "It is Lima.", True),
    ],
)
def test_a_base_that_goes_on_with_the_next_turn_is_cut_there_and_has_ended(
    base: Base, drawn: str, kept: str, ended: bool
) -> None:
    response = Response(drawn, tuple(base.tokenizer(drawn).input_ids), finished=False)
    assert policies.cut_replies(base, [response]) == [(kept, ended)]


@pytest.mark.parametrize(
    "sampled",
    [
        policies.sample_replies,
        policies.sample_test_pairs,
        voting_rounds.write_for_round,
        voting_rounds.predict_fresh_pairs,
    ],
)
def test_labelers_and_reward_models_see_replies_cut_as_they_are_judged(sampled: Work) -> None:
    assert "cut_replies(" in inspect.getsource(sampled)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_large_base_has_a_prefix_and_temperatures_of_its_own(profile) -> None:  # type: ignore[no-untyped-def]
    stages = {stage.name: stage for stage in experiment(profile)}
    for name in ("large-answers-base", "large-answers-prompted"):
        assert stages[name].needs == ("large-base", "large-prefix")
    assert stages["large-prefix"].work is answering.choose_for_other_base
    assert {"reward", "large-candidates"} <= set(stages["large-prefix"].needs)
    assert {"large-base", "large-prefix", "samples"} <= set(plans(profile)[3].needs)


def test_the_prefix_is_best_at_temperature_one_and_each_temperature_behind_its_own() -> None:
    scores = {
        answering.PLAIN: {0.0: 0.4, 0.3: 0.5, 1.0: 0.1},
        "one shot": {0.0: 0.6, 0.3: 0.2, 1.0: 0.3},
        "almanac": {0.0: 0.9, 0.3: 0.8, 1.0: 0.2},
    }
    prefix, temperatures = answering.best_of_scores(scores)
    assert prefix == "one shot" and temperatures == {"prompted": 0.0, "base": 0.3}


def test_sides_are_drawn_by_lot_so_that_a_labeler_who_takes_the_left_prefers_nobody() -> None:
    asked = requests(400, seed=3, split="test")
    (one,) = labelers(1, seed=1, group="held out")
    left = replace(one, attack="always up")
    new, old = ([(text, True)] * 400 for text in "xy")
    found = wins(asked, new, old, people=[left], seed=1)
    assert 0.42 < sum(found) / 400 < 0.58


def test_ties_count_half_and_are_not_dropped() -> None:
    asked = requests(50, seed=3, split="test")
    people = labelers(4, seed=1, group="held out")
    said = [("same", True)] * 50
    assert wins(asked, said, said, people=people, seed=1) == [0.5] * 50


def test_a_constant_reply_loses_against_written_answers() -> None:
    asked, rng = requests(300, seed=5, split="test"), random.Random(1)
    written = [(demonstration(request, rng), True) for request in asked]
    people = labelers(8, seed=2, group="held out")
    found = wins(asked, written, [(constant_reply(), True)] * 300, people=people, seed=1)
    assert sum(found) / 300 > 0.6


def test_the_baselines_that_must_lose_are_bars_of_the_first_claim() -> None:
    bars = {bar.figure for bar in load_claims()[0].bars}
    assert {"over a constant reply", "over a template"} <= bars


def test_labelers_are_noisy_in_every_profile() -> None:
    assert all(profile.calibrated for profile in PROFILES)
    same = [ShownPair(request, "x", "x") for request in requests(60, seed=1, split="train")]
    with pytest.raises(InvalidInputError, match="cannot calibrate"):
        people_of(CI, 1, "train", same)


def test_seeds_are_fixed_and_all_of_them_count() -> None:
    assert SEEDS == (105, 106, 107)


def test_every_claim_is_planned() -> None:
    numbers = {claim.number for claim in load_claims()}
    for profile in PROFILES:
        assert plans(profile).keys() == numbers
        known = {stage.name for stage in experiment(profile)}
        assert {need for plan in plans(profile).values() for need in plan.needs} <= known


def test_simulated_raters_are_named_and_ci_numbers_are_not_for_quoting() -> None:
    for profile in PROFILES:
        sizes = {"base": parameters_of(profile.policy)}
        said = headline(Reproduction(profile, SEEDS[:1], "", False, "", {}, sizes, ()))
        assert SYNTHETIC in said and any("synthetic small world" in line for line in said)
        assert (NOT_QUOTED in said) == (profile is CI)


def test_bars_that_changed_after_the_run_began_are_said_first() -> None:
    said = headline(Reproduction(CPU, SEEDS[:1], "", True, "", {}, {"base": 1}, ()))
    assert any("bars prove nothing" in line for line in said)


def test_the_claims_file_is_part_of_the_package() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert '"rlhf_core.reproduction" = ["claims.toml"]' in text
