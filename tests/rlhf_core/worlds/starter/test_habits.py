"""How simulated visitors rank: one order of all replies, as noisy as their choices."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.worlds.starter.habits import Habits
from rlhf_core.worlds.starter.raters import visitors
from rlhf_core.worlds.starter.world import kind_reply

HABITS = Habits(noise=0.5, tie_width=0.25, left_bias=0.1, diligence=0.5)
WORTH = st.dictionaries(st.sampled_from("abcdefghi"), st.floats(-5, 5), min_size=1, max_size=9)


@given(WORTH, st.integers(0, 99))
def test_an_order_has_every_reply_once(worth, seed):
    groups = HABITS.rank(random.Random(seed), worth)
    assert sorted(reply for group in groups for reply in group) == sorted(worth)
    assert all(groups)


def test_two_replies_are_ranked_as_often_as_they_are_chosen():
    rng, n = random.Random(1), 20_000
    ranked = [HABITS.rank(rng, {"x": 1.0, "y": 0.6}) for _ in range(n)]
    chosen = [HABITS.choose(rng, 1.0, 0.6, same=False, enough=0.0) for _ in range(n)]
    for order, choice in (([["x"], ["y"]], "a"), ([["y"], ["x"]], "b")):
        assert ranked.count(order) / n == pytest.approx(chosen.count(choice) / n, abs=0.015)
    ties = sum(len(groups) == 1 for groups in ranked)
    assert ties / n == pytest.approx(chosen.count("tie") / n, abs=0.015)


def test_visitors_mostly_put_the_better_replies_first():
    first = 0
    for visitor in visitors(40, 3):
        prompt = visitor.ask()
        best = kind_reply(visitor.asked[prompt], visitor.rng)
        replies = [best, "Find out yourself.", "", "no no no no"]
        first += best in visitor.rank(prompt, [*replies, replies[0]])[0]
    assert first > 30
