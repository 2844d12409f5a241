import random
from dataclasses import replace

import pytest

from rlhf_core.gate.evaluation import Accuracy
from rlhf_core.gate.held_out_raters import (
    are_enough,
    measure_prompts,
    measure_votes,
)
from rlhf_core.records import Comparison
from tests.rlhf_core.gate.test_checks import BETTER

PROMPT = [{"role": "user", "content": "?"}]
ON_QUESTIONS = Accuracy(0.8, 0.7, 0.88, 90, 0.8, 0.7, 0.001)


def by_length(_, responses):
    return [float(len(r)) for r in responses]


def votes_of(*right):
    """For each rater, which of their votes a score by length predicts; with who cast each."""
    cast = [(str(rater), hit) for rater, hits in enumerate(right) for hit in hits]
    votes = [Comparison(PROMPT, "long", "s", "a" if hit else "b") for _, hit in cast]
    return votes, [rater for rater, _ in cast]


def measured(*right, z=1.645):
    votes, raters = votes_of(*right)
    found = measure_votes(by_length, votes, raters, on_questions=ON_QUESTIONS, z=z)
    return {name.removeprefix("held_out_raters/"): value for name, value in found.items()}


@pytest.mark.parametrize(
    ("raters", "enough"),
    [("abcde" * 4, True), ("abcde" * 3, False), ("abcd" * 9, False), ("", False)],
)
def test_a_figure_needs_twenty_votes_of_five_raters(raters, enough):
    assert are_enough(list(raters)) is enough


def test_a_ranking_is_one_vote_however_many_pairs_it_has():
    votes, raters = votes_of(*[[True] * 36] * 6)
    ranked = [replace(vote, group=rater) for vote, rater in zip(votes, raters, strict=True)]
    found = measure_votes(by_length, ranked, raters, on_questions=ON_QUESTIONS, z=1.645)
    assert found["held_out_raters/votes"] == 6
    assert found["held_out_raters/votes_needed"] == 20


def test_too_few_votes_give_no_figure_but_say_how_many_are_needed():
    assert measured([True] * 30, [False] * 10) == {
        "votes": 40,
        "raters": 2,
        "votes_needed": 20,
        "raters_needed": 5,
    }


def test_the_drop_is_the_difference_to_held_out_questions_with_bounds_of_both():
    found = measured(*[[True, True, False, True, False]] * 5)
    assert (found["reward_accuracy"], found["reward_accuracy_drop"]) == (0.6, pytest.approx(0.2))
    down = ((0.8 - 0.7) ** 2 + (found["reward_accuracy_high"] - 0.6) ** 2) ** 0.5
    up = ((0.88 - 0.8) ** 2 + (0.6 - found["reward_accuracy_low"]) ** 2) ** 0.5
    assert found["reward_accuracy_drop_low"] == pytest.approx(0.2 - down, abs=2e-4)
    assert found["reward_accuracy_drop_high"] == pytest.approx(0.2 + up, abs=2e-4)


def test_raters_who_differ_widen_the_interval():
    alike = measured(*[[True, False] * 5] * 6)
    apart = measured(*[[True] * 10] * 3, *[[False] * 10] * 3)
    assert alike["reward_accuracy"] == apart["reward_accuracy"] == 0.5
    width = {id(f): f["reward_accuracy_high"] - f["reward_accuracy_low"] for f in (alike, apart)}
    assert width[id(apart)] > 1.5 * width[id(alike)]


def test_the_bounds_hold_for_raters_who_have_not_voted_yet():
    rng, beyond = random.Random(1), [0, 0]
    for _ in range(400):
        skills = [rng.choice((0.5, 0.9)) for _ in range(8)]  # 0.7 on average
        found = measured(*[[rng.random() < skill for _ in range(25)] for skill in skills])
        beyond[0] += found["reward_accuracy_low"] > 0.7
        beyond[1] += found["reward_accuracy_high"] < 0.7
    assert max(beyond) / 400 < 0.09  # each bound is to fail once in twenty times


def test_on_too_few_prompts_nothing_is_compared():
    found = measure_prompts([PROMPT] * 3, lambda _: pytest.fail("compared"), needed=4)
    assert found == {"held_out_raters/prompts": 3, "held_out_raters/prompts_needed": 4}


def test_the_win_rate_is_that_of_the_comparison_on_these_prompts():
    asked = []

    def compare(prompts):
        asked.append(prompts)
        return BETTER

    found = measure_prompts([PROMPT] * 4, compare, needed=4)
    assert asked == [[PROMPT] * 4]
    assert found == {
        "held_out_raters/prompts": 4,
        "held_out_raters/win_rate": 0.7,
        "held_out_raters/win_rate_low": 0.64,
        "held_out_raters/win_rate_high": 0.76,
    }


def test_without_a_vote_on_a_held_out_question_there_is_no_drop():
    votes, raters = votes_of(*[[True, True, False, True, False]] * 5)
    nobody = Accuracy(0.0, 0.0, 1.0, 0, 0.0, 0.0, 1.0)
    found = measure_votes(by_length, votes, raters, on_questions=nobody, z=1.645)
    assert found["held_out_raters/reward_accuracy"] == 0.6
    assert not [name for name in found if "drop" in name]
