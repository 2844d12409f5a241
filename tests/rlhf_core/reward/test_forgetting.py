"""On the tiny model: earlier votes are forgotten if tastes have turned, and only then."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.records import Comparison
from rlhf_core.reward.forgetting import FORGOTTEN, MOST, best_half_life, faded, newest_opinions

KIND, RUDE = "yes of course, my friend", "no, go away"
NEW, OLD = 80, 160


def cast(said, age, *, likes_kind, noise=0.2, seed=0):
    """One vote about a question of its own; one in five says the opposite of the taste."""
    rng = random.Random(f"{seed}/{age}")
    kind_wins = likes_kind != (rng.random() < noise)
    asked = rng.randrange(100_000)  # nothing in the text says how old the vote is
    return Comparison(
        said(f"what is {asked}"),
        f"{KIND} {asked % 7}",
        f"{RUDE} {asked % 7}",
        "a" if kind_wins else "b",
        age=age,
    )


def votes(said, *, turned, seed=0):
    return [
        cast(said, age, likes_kind=age < NEW or not turned, seed=seed) for age in range(NEW + OLD)
    ]


def test_earlier_votes_count_less_once_tastes_have_turned(base, said):
    assert best_half_life(base, votes(said, turned=True), new=NEW) <= NEW


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_forgotten_while_tastes_stay_as_they_are(base, said, seed):
    assert math.isinf(best_half_life(base, votes(said, turned=False, seed=seed), new=NEW))


def test_however_many_votes_are_new_the_earlier_half_is_compared_with(base, said):
    turned = [cast(said, age, likes_kind=age < MOST // 2) for age in range(MOST)]
    assert best_half_life(base, turned, new=10 * MOST) <= MOST // 2


def test_few_new_votes_say_nothing_about_tastes(base, said):
    turned = [cast(said, age, likes_kind=age < 20, noise=0.0) for age in range(100)]
    assert math.isinf(best_half_life(base, turned, new=20))


def test_without_earlier_votes_there_is_nothing_to_forget(base, said):
    assert math.isinf(best_half_life(base, votes(said, turned=True), new=NEW + OLD))


def test_ties_alone_say_nothing(base, said):
    ties = [replace(c, label="tie") for c in votes(said, turned=True)]
    assert math.isinf(best_half_life(base, ties, new=NEW))


def test_a_ranking_of_many_pairs_is_one_of_the_newest_opinions(said):
    pair = cast(said, 0, likes_kind=True)
    ranked = [replace(pair, age=n, group=str(n)) for n in range(MOST + 5) for _ in range(3)]
    assert [c.age for c in newest_opinions(ranked)] == [n for n in range(MOST) for _ in range(3)]


def test_only_the_newest_votes_are_read(base, said):
    turned = votes(said, turned=True)
    unreadable = replace(turned[-1], prompt=said("x " * 10_000), age=MOST + 1)
    fillers = [replace(turned[-1], age=age) for age in range(NEW + OLD, MOST)]
    assert best_half_life(base, [*turned, *fillers, unreadable], new=NEW) <= NEW


@given(st.lists(st.integers(0, 500), max_size=30), st.floats(1, 1000))
def test_a_vote_counts_half_after_so_many_newer_ones_and_the_oldest_not_at_all(ages, half_life):
    prompt = ({"role": "user", "content": "hi"},)
    given_votes = [Comparison(prompt, "a", "b", "a", weight=2.0, age=age) for age in ages]
    left = faded(given_votes, half_life)
    assert [c.age for c in left] == [a for a in ages if 0.5 ** (a / half_life) >= FORGOTTEN]
    for vote in left:
        assert vote.weight == pytest.approx(2.0 * 0.5 ** (vote.age / half_life))
    assert faded(given_votes, math.inf) == tuple(given_votes)
