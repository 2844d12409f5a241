"""Which opinions a cycle takes when there are more than it takes."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store import OpinionRow
from rlhf_core.config import DataSettings
from rlhf_core.cycle.sampling import Chances, draw

VERSIONS = [f"policy-{number:06d}" for number in range(6)]


def row(number, *, day=1, adapter=VERSIONS[-1], subject=None, verdict=1, name=None):
    return OpinionRow(
        number=number,
        id=name or f"id-{number}",
        rater_id="ann",
        created_at=f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}T00:00:00.000Z",
        weight=1.0,
        adapters=(adapter,),
        subject=subject or f"subject {number}",
        verdict=verdict,
    )


def pool(*rows):
    return rows


def drawn(new, old, most, *, seed="0", **chosen):
    chances = Chances(DataSettings(**chosen), VERSIONS, seed)
    return tuple([opinion[0].number for opinion in side] for side in draw(new, old, most, chances))


def often(old, most=1, draws=600, **chosen):
    """How often each opinion is among those that are drawn, with one seed after the other."""
    counts = Counter()
    for seed in range(draws):
        counts.update(drawn(pool(), old, most, seed=str(seed), **chosen)[1])
    return counts


pools = st.lists(
    st.tuples(
        st.integers(1, 40), st.integers(0, 300), st.sampled_from([*VERSIONS, "gone"]),
        st.integers(0, 5), st.sampled_from([-1, 0, 1]),
    ),
    max_size=40,
)  # fmt: skip


def from_values(values, *, above):
    rows = [
        row(above + number, day=day, adapter=adapter, subject=f"s{subject}", verdict=verdict,
            name=f"{above} {place}")
        for place, (number, day, adapter, subject, verdict) in enumerate(values)
    ]  # fmt: skip
    return pool(*rows)


@settings(max_examples=200, deadline=None)
@given(pools, pools, st.integers(1, 50), st.integers(0, 9))
def test_never_more_than_the_cap_and_below_it_all_and_always_the_same(news, olds, most, seed):
    new, old = from_values(news, above=100), from_values(olds, above=0)
    fresh, aged = drawn(new, old, most, seed=str(seed))
    there = {r.number for r in new}, {r.number for r in old}
    assert len(fresh) + len(aged) == min(most, len(there[0]) + len(there[1]))
    assert len(set(fresh)) == len(fresh) and len(set(aged)) == len(aged)
    assert set(fresh) <= there[0] and set(aged) <= there[1]
    if len(there[0]) + len(there[1]) <= most:
        assert (set(fresh), set(aged)) == there
    assert drawn(new[::-1], old, most, seed=str(seed)) == (fresh, aged)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(2, 40))
def test_new_opinions_come_first_but_when_both_overflow_half_are_old(news, olds, most):
    new = pool(*(row(100 + n) for n in range(news)))
    old = pool(*(row(n) for n in range(olds)))
    fresh, aged = map(len, drawn(new, old, most))
    assert fresh >= min(news, most - most // 2)
    assert aged <= max(most // 2, most - news)
    if news >= most and olds >= most:
        assert aged == most // 2


def test_every_old_opinion_has_a_chance_however_old_it_is():
    old = pool(*(row(n, day=n * 8, adapter=VERSIONS[n % 6]) for n in range(40)))
    assert set(often(old, most=4)) == set(range(40))


def test_an_opinion_of_one_half_life_is_drawn_half_as_often_and_never_less_than_the_floor():
    counts = often(pool(row(1, day=300), row(2, day=270), row(3, day=0)), draws=4000)
    assert counts[1] / counts[2] == pytest.approx(2, rel=0.15)
    assert counts[1] / counts[3] == pytest.approx(5, rel=0.2)
    never = often(pool(row(1, day=300), row(3, day=0)), draws=300, floor=1e-9)
    assert never == {1: 300}


def test_opinions_about_the_newest_policy_are_drawn_most():
    old = pool(row(1), row(2, adapter=VERSIONS[1]), row(3, adapter="unknown"))
    counts = often(old, draws=4000)
    assert counts[1] / counts[2] == pytest.approx(2, rel=0.15)  # four versions later
    assert counts[2] > counts[3]


def test_opinions_are_drawn_more_where_raters_disagree_than_where_many_agree():
    agreed = [row(n, subject="agreed") for n in range(8)]
    split = [row(10 + n, subject="split", verdict=(-1) ** n) for n in range(8)]
    counts = often(pool(*agreed, *split), draws=2000)
    share = sum(counts[n] for n in range(10, 18)) / sum(counts[n] for n in range(8))
    assert share == pytest.approx(1 / 0.36, rel=0.15)  # p = 9/10, so 4 p (1 - p) = .36


def test_a_time_that_nobody_can_read_is_old():
    odd = OpinionRow(1, "x", "ann", "then", 1.0, (), "s", 1)
    assert drawn(pool(row(2)), pool(odd), 5) == ([2], [1])
