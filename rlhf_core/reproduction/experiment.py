"""The experiment from top to bottom: which models are made, and what each claim needs of them.

It follows Ouyang et al. 2022, arXiv:2203.02155, section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlhf_core.reproduction import answering, labelling, policies, voting_rounds
from rlhf_core.reproduction.claims import Found
from rlhf_core.reproduction.measures import (
    attackers,
    behaviour,
    estimators,
    overoptimisation,
    prediction,
    preference,
    rounds,
    tax,
)
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.profiles import ReproductionProfile
from rlhf_core.reproduction.stages import ExperimentStage, Work

SMALL = "small-"
LEARNT = ("base", "sft", "reward")
AS_IT_IS = {"least_cloze": 0.0, "least_marked": 0.0}  # a base that need not know anything


def experiment(profile: ReproductionProfile) -> list[ExperimentStage]:
    """Every stage of one seed, in the order of the paper."""
    stage = ExperimentStage
    kl = {name: {"kl_coef": coef} for name, coef in profile.penalties.items()}
    ptx = {"ptx": profile.ptx}
    mixed = {"sets": ["mixed"]}
    return [
        # 1. A base that has read the flawed corpus.
        stage("base", policies.pretrain, (), {"size": profile.policy}),
        # 2. Supervised fine-tuning on what labelers wrote.
        stage("sft", policies.imitate, ("base",)),
        # 3. A reward model from rankings by training labelers.
        stage("samples", policies.sample_replies, ("base", "sft")),
        stage("votes", labelling.label_replies, ("samples",)),
        stage("reward", policies.learn_reward, ("base", "sft", "samples", "votes")),
        # 4. PPO by its score: without and with pretraining text, and with larger KL penalties.
        stage("ppo", policies.optimise, LEARNT),
        stage("ptx", policies.optimise, LEARNT, ptx),
        *(stage(name, policies.optimise, LEARNT, options) for name, options in kl.items()),
        # 5. Baselines: the base behind its best prefix, and best-of-n.
        stage("prefix", answering.choose_prefix, ("base", "reward")),
        stage("best-of-samples", answering.sample_many, ("base", "sft")),
        stage(
            "answers-best-of-reward",
            answering.answer_best_of,
            ("base", "reward", "best-of-samples"),
            {"reward": "reward"},
        ),
        # 6. Replies of all to the test prompts, and skills.
        stage("answers-base", answering.answer, ("base", "reward")),
        stage(
            "answers-prompted", answering.answer, ("base", "reward", "prefix"), {"prefixed": True}
        ),
        *(
            stage(f"answers-{name}", answering.answer, (*LEARNT, name), {"adapter": name})
            for name in ("sft", "ppo", "ptx")
        ),
        stage("skills-base", answering.measure_skills, ("base", "reward")),
        *(
            stage(f"skills-{name}", answering.measure_skills, (*LEARNT, name), {"adapter": name})
            for name in ("sft", "ppo", "ptx", *kl)
        ),
        # 7. Reward models without a fifth of the labelers each, for claim 9.
        stage("pairs", policies.sample_test_pairs, ("base", "sft")),
        *(one for fold in range(labelling.FOLDS) for one in _fold(fold)),
        *(one for signal in labelling.SIGNALS for one in _signal(signal)),
        # 8. Long PPO runs without a KL penalty, and best-of-n, for claim 10; RLOO for claim 14.
        stage(
            "reward-one", policies.learn_reward, ("base", "sft", "samples", "votes"), {"members": 1}
        ),
        *_long_run("over-one", "reward-one", profile),
        *_long_run("over", "reward", profile),
        *(
            stage(
                f"over-one-{name}",
                answering.optimise_and_answer,
                ("base", "sft", "reward-one"),
                {"reward": "reward-one", "kl_coef": coef},
            )
            for name, coef in overoptimisation.PENALTIES.items()
        ),
        stage(
            "best-of-reward-one",
            answering.answer_best_of,
            ("base", "reward-one", "best-of-samples"),
            {"reward": "reward-one"},
        ),
        stage("rloo", policies.optimise, LEARNT, {"estimator": "rloo"}),
        stage("answers-rloo", answering.answer, (*LEARNT, "rloo"), {"adapter": "rloo"}),
        # 9. The small aligned model and the large base of claim 3.
        *_small_line(profile),
        stage(
            "large-base",
            policies.pretrain,
            (),
            {"size": profile.large, **AS_IT_IS},
            line="large-",
        ),
        stage("large-candidates", answering.answer_behind_all, ("large-base",), line="large-"),
        stage(
            "large-prefix",
            answering.choose_for_other_base,
            ("base", "reward", "large-candidates"),
        ),
        *(
            stage(
                f"large-answers-{name}",
                answering.answer,
                ("large-base", "large-prefix"),
                mixed | {"prefixed": name == "prompted"},
                line="large-",
            )
            for name in ("base", "prompted")
        ),
        # 10. Three rounds of new votes and training, for claim 11.
        *(one for number in voting_rounds.ROUNDS for one in _round(number, profile)),
        stage(
            "round-pairs",
            voting_rounds.predict_fresh_pairs,
            ("base", "pairs", *voting_rounds.WRITERS, *voting_rounds.MODELS),
        ),
        stage(
            "skills-last-round",
            answering.measure_skills,
            (*LEARNT, voting_rounds.AFTER),
            {"adapter": voting_rounds.AFTER},
        ),
        # 11. Reward models from votes of which some are hostile, for claim 12.
        *(
            one
            for percent in labelling.HOSTILE
            for weights in labelling.WEIGHTINGS
            for one in _attacked(percent, weights)
        ),
    ]


def _fold(fold: int) -> list[ExperimentStage]:
    """Votes without a fold of the labelers, and a reward model of one member that learns them."""
    line, options = f"fold-{fold}-", {"left_out": fold}
    return _predicting(
        ExperimentStage(f"{line}votes", labelling.label_replies, ("samples",), options, line)
    )


def _signal(signal: str) -> list[ExperimentStage]:
    """Votes of one kind, and a reward model of one member that learns them."""
    line, options = f"{signal}-", {"signal": signal}
    return _predicting(
        ExperimentStage(f"{line}votes", labelling.give_signals, ("samples",), options, line)
    )


def _predicting(votes: ExperimentStage) -> list[ExperimentStage]:
    """These votes, and the reward model whose predictions are measured."""
    line = votes.line
    return [
        votes,
        ExperimentStage(
            f"{line}reward",
            policies.learn_and_predict,
            ("base", "sft", "samples", "pairs", f"{line}votes"),
            {"members": 1},
            line,
        ),
    ]


def _long_run(name: str, reward: str, profile: ReproductionProfile) -> list[ExperimentStage]:
    """PPO without a KL penalty in parts, each of which goes on from the one before."""
    found = []
    for part in range(profile.segments):
        options = {"reward": reward, "kl_coef": 0.0, "iterations": profile.segment_iterations}
        needs = ["base", "sft", reward]
        if part:
            options["start"] = f"{name}-{part - 1}"
            needs.append(f"{name}-{part - 1}")
        found.append(
            ExperimentStage(f"{name}-{part}", answering.optimise_and_answer, tuple(needs), options)
        )
    return found


def _round(number: int, profile: ReproductionProfile) -> list[ExperimentStage]:
    """One round: replies by the newest policy, votes on them, a reward model, and PPO-ptx."""
    name, start, options = f"round-{number}", voting_rounds.start_of(number), {"round": number}
    votes = [f"round-{earlier}-votes" for earlier in voting_rounds.ROUNDS[:number]]
    learning = options | {
        "start": start,
        "reward": f"{name}-reward",
        "ptx": profile.ptx,
        "iterations": voting_rounds.round_iterations(profile),
    }
    stage = ExperimentStage
    return [
        stage(f"{name}-samples", voting_rounds.write_for_round, ("base", start), options),
        stage(f"{name}-votes", labelling.label_round, ("samples", f"{name}-samples"), options),
        stage(
            f"{name}-reward",
            voting_rounds.learn_from_rounds,
            ("base", "sft", "round-1-samples", *votes),
            options | {"members": voting_rounds.round_members(profile)},
        ),
        stage(
            name,
            answering.optimise_and_answer,
            tuple(dict.fromkeys(("base", "sft", start, f"{name}-reward"))),
            learning,
        ),
    ]


def _attacked(percent: int, weights: str) -> list[ExperimentStage]:
    """Votes with so many hostile labelers, weighed so, and a reward model that learns them."""
    line, options = f"hostile-{percent}-{weights}-", {"hostile": percent, "weights": weights}
    return _predicting(
        ExperimentStage(f"{line}votes", labelling.label_twice, ("samples",), options, line)
    )


def _small_line(profile: ReproductionProfile) -> list[ExperimentStage]:
    """The stages up to PPO-ptx once more in the small size; none if the policy has that size."""
    if profile.small == profile.policy:
        return []
    made: list[tuple[str, Work, tuple[str, ...], dict[str, Any]]] = [
        ("base", policies.pretrain, (), {"size": profile.small, **AS_IT_IS}),
        ("sft", policies.imitate, ("base",), {}),
        ("samples", policies.sample_replies, ("base", "sft"), {}),
        ("votes", labelling.label_replies, ("samples",), {}),
        ("reward", policies.learn_reward, ("base", "sft", "samples", "votes"), {}),
        ("ptx", policies.optimise, LEARNT, {"ptx": profile.ptx}),
        ("answers-ptx", answering.answer, (*LEARNT, "ptx"), {"adapter": "ptx", "sets": ["mixed"]}),
    ]
    return [
        ExperimentStage(f"{SMALL}{name}", work, tuple(map(SMALL.__add__, needs)), options, SMALL)
        for name, work, needs, options in made
    ]


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """What a claim needs, and how it is computed from that."""

    needs: tuple[str, ...]
    measure: Callable[[JudgedPolicies], Found]


def plans(profile: ReproductionProfile) -> dict[int, ClaimPlan]:
    """How each claim is measured."""
    answered = tuple(f"answers-{name}" for name in ("base", "prompted", "sft", "ppo", "ptx"))
    skilled = ("base", "sft", "ppo", "ptx", *profile.penalties)
    line = "" if profile.small == profile.policy else SMALL
    folds = tuple(f"fold-{fold}-reward" for fold in range(labelling.FOLDS))
    signals = tuple(f"{s}-{stage}" for s in labelling.SIGNALS for stage in ("votes", "reward"))
    hostile = tuple(
        f"hostile-{percent}-{weights}-{stage}"
        for percent in labelling.HOSTILE
        for weights in labelling.WEIGHTINGS
        for stage in ("votes", "reward")
    )
    large = ("large-base", "large-prefix", "large-answers-base", "large-answers-prompted")
    return {
        1: ClaimPlan((*answered, "answers-best-of-reward"), preference.over_base),
        2: ClaimPlan((*answered, "prefix"), preference.over_prompted),
        3: ClaimPlan(
            (f"{line}answers-ptx", f"{line}base", *large, "samples"), preference.over_larger
        ),
        4: ClaimPlan((*answered, "base"), behaviour.truth),
        5: ClaimPlan((*answered, "base"), behaviour.made_up_answers),
        6: ClaimPlan(answered, behaviour.rudeness),
        7: ClaimPlan(tuple(f"skills-{name}" for name in skilled), tax.skills_lost_and_won_back),
        8: ClaimPlan(answered, preference.by_held_out_labelers),
        9: ClaimPlan((*folds, "samples", "pairs"), prediction.other_labelers),
        10: ClaimPlan(
            (*overoptimisation.stages(profile), "best-of-reward-one", "answers-sft"),
            overoptimisation.too_far,
        ),
        11: ClaimPlan(
            (
                *(f"round-{number}" for number in voting_rounds.ROUNDS),
                *("answers-sft", "answers-ptx", "round-pairs"),
                *("skills-base", "skills-last-round", "samples"),
            ),
            rounds.rounds_help,
        ),
        12: ClaimPlan((*hostile, "pairs"), attackers.weighing_raters),
        13: ClaimPlan((*signals, "pairs"), prediction.signals),
        14: ClaimPlan(
            ("answers-rloo", "answers-ppo", "answers-sft", "samples"), estimators.ppo_and_rloo
        ),
    }
