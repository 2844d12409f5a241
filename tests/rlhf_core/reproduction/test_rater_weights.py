import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_store.raters.agreement import PairVote, judgement
from feedback_store.raters.behaviour import Behaviour
from feedback_store.raters.reliability import assess
from rlhf_core.reproduction.rater_weights import Overlap, weights_by_agreement

PEOPLE = [f"labeler {number}" for number in range(20)]
# how often each is right: three say the opposite of what they find, three toss a coin
RIGHT = dict(zip(PEOPLE, [0.16] * 3 + [0.5] * 3 + [0.84] * 14, strict=True))


def votes(seed: int, prompts: int = 500) -> list[PairVote]:
    """Two people on the two replies to each prompt."""
    rng, found = random.Random(seed), []
    for number in range(prompts):
        for who in rng.sample(PEOPLE, 2):
            label = "a" if rng.random() < RIGHT[who] else "b"
            found.append(judgement(who, f"prompt {number}", ("x", "y"), label))
    return found


def overlaps(votes: list[PairVote]) -> list[Overlap]:
    pairs = zip(votes[0::2], votes[1::2], strict=True)
    return [Overlap(a.rater_id, b.rater_id, float(a.verdict == b.verdict)) for a, b in pairs]


def by_the_store(votes: list[PairVote]) -> Mapping[str, float]:
    alone = [Behaviour(who, 50, 0, 0, 25, 50, 0, 0, False) for who in PEOPLE]
    return {report.rater_id: report.reliability for report in assess(alone, votes)}


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_nearly_those_that_the_store_gives_for_the_same_votes(seed: int) -> None:
    said = votes(seed)
    here, there = weights_by_agreement(overlaps(said)), by_the_store(said)
    assert here.keys() == there.keys()
    assert max(abs(here[who] - there[who]) for who in PEOPLE) < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_who_says_the_opposite_counts_nothing_and_who_is_right_counts_in_full(seed: int) -> None:
    found = weights_by_agreement(overlaps(votes(seed, prompts=3000)))
    contrary, tossing, honest = (
        [found[p] for p in PEOPLE if RIGHT[p] == x] for x in (0.16, 0.5, 0.84)
    )
    assert max(contrary) == 0 and sum(honest) / 14 > 0.9
    assert 0 <= sum(tossing) / 3 < 0.5


def test_one_disagreement_hardly_changes_what_anybody_counts() -> None:
    assert min(weights_by_agreement([Overlap("x", "y", 0.0)]).values()) > 0.6


SOME = st.tuples(st.sampled_from(PEOPLE[:5]), st.sampled_from(PEOPLE[5:8]), st.floats(0, 1))


@given(st.lists(SOME.map(lambda row: Overlap(*row)), min_size=1, max_size=30), st.randoms())
def test_neither_the_order_nor_the_sides_of_rankings_matter(
    rows: list[Overlap], rng: random.Random
) -> None:
    found = weights_by_agreement(rows)
    turned = [Overlap(o.other, o.one, o.agreement) for o in rows]
    rng.shuffle(turned)
    assert weights_by_agreement(turned) == pytest.approx(found)
    assert all(0 <= weight <= 1 for weight in found.values())
