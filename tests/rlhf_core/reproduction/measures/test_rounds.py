"""Claim 11 on replies and probabilities that are written by hand."""

import math
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.reproduction.answering import test_set as asked_of
from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.measures.rounds import _elo, _not_surely_better, rounds_help
from rlhf_core.reproduction.policies import Reply, paired_requests
from rlhf_core.reproduction.voting_rounds import FRESH, MORE, ROUNDS, STALE
from rlhf_core.worlds.miniature.skills import SKILLS
from tests.rlhf_core.reproduction.measures.written import SEED, SMALL, bad, good, samples, written

ASKED = asked_of("mixed", SMALL.test, SEED)
FRESHLY = paired_requests(SMALL, SEED)
# the good reply is first in every second pair
PAIRS = [[(good(r), True), (bad(r), True)][:: 1 if i % 2 else -1] for i, r in enumerate(FRESHLY)]
SKILLED = {"skills": {skill: [1.0, 0.0] for skill in SKILLS}, "score": 0.0}


def knows(sure: float) -> list[float]:
    """How probable the first reply is to one who knows the good ones."""
    return [sure if i % 2 else 1 - sure for i in range(len(FRESHLY))]


def partly(share: float) -> list[Reply]:
    """Good replies to the first requests, bad ones to the rest."""
    return [((good if i < share * len(ASKED) else bad)(r), True) for i, r in enumerate(ASKED)]


def measured(
    root: Path,
    shares: tuple[float, ...],
    *,
    stale: float = 0.9,
    stale_on_start: float = 0.9,
    ptx: float = 0.0,
) -> Found:
    """A start, three rounds and PPO-ptx with these shares of good replies.

    The stale model is so sure of good replies by the policy that the last round began with, and by
    the start.
    """
    start, *rounds = ({"mixed": partly(share)} for share in shares)
    stages: dict[str, Any] = {
        "samples": samples(),
        "answers-sft": {"replies": start},
        "answers-ptx": {"replies": {"mixed": partly(ptx)}},
        "skills-base": SKILLED,
        "skills-last-round": SKILLED,
        "round-pairs": {
            "pairs": dict.fromkeys(("sft", "round-2", "round-3"), PAIRS),
            "probabilities": {
                "sft": {STALE: knows(stale_on_start), FRESH: knows(0.9), MORE: knows(0.9)},
                "round-2": {STALE: knows(stale), FRESH: knows(0.9), MORE: knows(0.9)},
                "round-3": dict.fromkeys((STALE, FRESH, MORE), knows(0.9)),
            },
        },
    }
    for number, replies in enumerate(rounds, 1):
        stages[f"round-{number}"] = {"replies": replies, "objective/kl": 2.0 * number}
    return rounds_help(written(root, stages))


def test_each_round_is_compared_with_the_one_before_and_the_last_with_the_start(
    tmp_path: Path,
) -> None:
    found = measured(tmp_path, (0.0, 0.5, 1.0, 1.0)).figures
    assert next(iter(found)) == "last round over the start"
    assert found["last round over the start"].value > 0.65
    assert found["last round over the start, by the exact judge"].value > 0.9
    assert found["round 1 over the start"].value > 0.5
    assert found["round 2 over round 1"].value > 0.5
    assert found["round 3 over round 2"].value == 0.5  # the same replies: ties
    elo = found["round 3 over round 2, Elo"]
    assert (elo.value, elo.unit) == (0, "Elo")
    assert found["KL from SFT, nats a reply, round 3"].value == 6


def test_the_last_round_is_compared_with_ppo_that_had_no_rounds(tmp_path: Path) -> None:
    name = "last round over PPO-ptx of the other claims"
    worse, as_good = (
        measured(tmp_path / str(ptx), (0.0, 0.5, 1.0, 1.0), ptx=ptx).figures[name]
        for ptx in (0.0, 1.0)
    )
    assert worse.value > 0.65 and as_good.value == 0.5
    assert f"{3 * (SMALL.iterations // 2)} against {SMALL.iterations} iterations" in worse.about


@pytest.mark.parametrize(
    ("shares", "named"),
    [
        ((0.0, 1.0, 0.5, 0.0), ": round 2, round 3"),  # although the first is far better
        ((0.0, 0.0, 1.0, 1.0), ": round 3"),
        ((0.0, 0.0, 1.0, 0.0), ": round 3"),
    ],
)
def test_rounds_that_are_not_surely_better_than_the_one_before_are_named(
    shares: tuple[float, ...], named: str, tmp_path: Path
) -> None:
    remarks = [said for said in measured(tmp_path, shares).remarks if "not surely better" in said]
    assert len(remarks) == 1 and remarks[0].endswith(named)


def test_no_round_is_named_when_each_is_surely_better() -> None:
    better = Figure(0.7, 0.6, 0.8)
    assert _not_surely_better(dict.fromkeys(ROUNDS, better)) == []
    assert _not_surely_better({1: Figure(0.4, 0.3, 0.5), 2: better, 3: better}) == []


def test_gold_rewards_move_to_the_right_with_better_replies(tmp_path: Path) -> None:
    found = measured(tmp_path, (0.0, 0.5, 1.0, 1.0))
    gold, helpful, civil = (
        [found.figures[f"{what}, {p}"].value for p in ("start", "round 1", "round 2")]
        for what in ("gold reward", "helpful", "neither rude nor made up")
    )
    assert gold == sorted(gold) and helpful == sorted(helpful) and civil == sorted(civil)
    assert civil[2] == 1.0 and gold[2] > gold[0] + 1
    units = {name: figure.unit for name, figure in found.figures.items()}
    assert units["gold reward, start"] == "gold reward" and not units["helpful, start"]
    low = [found.figures[f"gold reward, lowest 5% below, {p}"].value for p in ("start", "round 2")]
    assert low[0] < low[1]
    assert len(found.curves) == 4 and len(found.curves["start"]) == 19


def test_a_stale_reward_model_loses_what_the_fresh_one_has_right(tmp_path: Path) -> None:
    same = measured(tmp_path / "same", (0.0, 1.0, 1.0, 1.0)).figures
    wrong = measured(tmp_path / "wrong", (0.0, 1.0, 1.0, 1.0), stale=0.1).figures
    assert same["loss of a stale reward model"].value == 0
    fresh, stale = (
        wrong[f"accuracy of {model}, pairs by the policy that the last round began with"]
        for model in ("the fresh one", "a stale reward model")
    )
    loss = wrong["loss of a stale reward model"]
    assert loss.value == pytest.approx(fresh.value - stale.value)
    assert loss.value > 0.2 and (loss.low or 0) > 0
    for who in ("the start", "the policy after the last round"):
        assert wrong[f"loss of a stale reward model, pairs by {who}"].value == 0
    control = "loss of the other claims' reward model (more votes, more members)"
    assert wrong[f"{control}, pairs by the start"].value == 0
    remarks = measured(tmp_path / "said", (0.0, 1.0, 1.0, 1.0)).remarks
    assert "members: 1 in a round's reward model, 2 in the other claims'" in remarks


def test_a_model_that_is_worse_on_all_pairs_lost_nothing_by_being_stale(tmp_path: Path) -> None:
    name = "loss of a stale reward model less its loss on pairs by the start"
    shares = (0.0, 1.0, 1.0, 1.0)
    alike = measured(tmp_path / "alike", shares, stale=0.1, stale_on_start=0.1).figures
    stale = measured(tmp_path / "stale", shares, stale=0.1).figures
    assert alike["loss of a stale reward model"].value > 0.2
    assert (alike[name].low, alike[name].value, alike[name].high) == (0, 0, 0)  # paired
    assert stale[name].value == pytest.approx(stale["loss of a stale reward model"].value)
    assert (stale[name].low or 0) > 0


@pytest.mark.parametrize(
    ("p", "points"),
    [(0.5, 0.0), (10 / 11, 400.0), (1 / 11, -400.0), (1.0, math.inf), (0.0, -math.inf)],
)
def test_a_win_rate_in_points_of_elo(p: float, points: float) -> None:
    found = _elo(Figure(p, 0.5, p))
    assert (found.low, found.value, found.high) == pytest.approx((0, points, points))
    assert found.unit == "Elo"  # else it would be plotted beside shares
