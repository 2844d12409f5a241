"""Labelers: deterministic, as noisy as people, and some of them harmful."""

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.errors import InvalidInputError
from rlhf_core.worlds.miniature.labelers import (
    AGREEMENT,
    Group,
    Labeler,
    ShownPair,
    calibrated,
    labelers,
    with_adversaries,
)
from rlhf_core.worlds.miniature.replies import bad_reply, good_reply
from rlhf_core.worlds.miniature.world import requests

seeds = st.integers(0, 10_000)


def some_pairs(n: int, seed: int) -> list[ShownPair]:
    """Pairs as a half-trained policy writes them: each reply is of either mood."""
    rng = random.Random(seed)

    def reply(request):  # type: ignore[no-untyped-def]
        good = rng.random() < 0.5
        return good_reply(request, rng) if good else bad_reply(request, rng)[0]

    return [ShownPair(r, reply(r), reply(r)) for r in requests(n, seed=seed, split="train")]


PAIRS = some_pairs(3000, seed=5)


def observed(people: list[Labeler], pairs: list[ShownPair]) -> float:
    """Share of equal picks of two labelers, each of whom sees the sides in an order of chance."""
    rng, same, decided = random.Random(0), 0, 0
    couples = list(combinations(people, 2))
    for request, a, b, _ in pairs:
        for couple in rng.sample(couples, 4):
            picks = []
            for who in couple:
                turned = rng.random() < 0.5
                pick = who.choose(request, b, a) if turned else who.choose(request, a, b)
                picks.append({"a": "b", "b": "a", "tie": "tie"}[pick] if turned else pick)
            if "tie" not in picks:
                decided, same = decided + 1, same + (picks[0] == picks[1])
    return same / decided


def test_no_one_is_in_both_groups() -> None:
    names = [{one.name for one in labelers(32, seed=s, group=g)} for s in (1, 2) for g in AGREEMENT]
    assert all(not a & b for a, b in combinations(names, 2))


@pytest.mark.parametrize("group", AGREEMENT)
def test_labelers_agree_as_often_as_people_on_other_pairs_than_they_were_calibrated_on(
    group: Group,
) -> None:
    fresh = [pair for pair in some_pairs(3000, seed=6) if pair[1] != pair[2]]
    people = calibrated(labelers(16, seed=3, group=group), PAIRS, target=AGREEMENT[group])
    assert abs(observed(people, fresh) - AGREEMENT[group]) < 0.015


def test_an_agreement_that_no_noise_gives_is_refused_in_words() -> None:
    people = labelers(8, seed=3, group="train")
    with pytest.raises(InvalidInputError, match=r"cannot agree on 99\.9%: without noise"):
        calibrated(people, PAIRS[:300], target=0.999)
    with pytest.raises(InvalidInputError, match="pairs of different replies"):
        calibrated(people, [ShownPair(r, a, a) for r, a, *_ in PAIRS])


@given(seeds)
def test_what_a_labeler_says_does_not_depend_on_what_was_asked_before(seed: int) -> None:
    pairs = some_pairs(4, seed)
    first, again = (labelers(3, seed=1, group="train") for _ in range(2))
    forth = [who.choose(*pair) for who in first for pair in pairs]
    back = [who.choose(*pair) for who in reversed(again) for pair in reversed(pairs)]
    assert forth == back[::-1]


@given(seeds)
def test_a_ranking_gives_every_reply_a_rank_from_one_on(seed: int) -> None:
    rng = random.Random(seed)
    request = requests(1, seed=seed, split="train")[0]
    replies = [bad_reply(request, rng)[0] for _ in range(4)] + [good_reply(request, rng)] * 2
    ranks = labelers(1, seed=seed, group="train")[0].rank(request, replies)
    assert set(ranks) == set(range(1, max(ranks) + 1)) and len(ranks) == 6
    assert ranks[-1] == ranks[-2]  # equal replies share a rank


def test_rankings_and_choices_prefer_the_good_mood() -> None:
    rng = random.Random(2)
    people = calibrated(labelers(10, seed=3, group="train"), PAIRS[:500])
    ranked = chosen = 0
    asked = requests(300, seed=8, split="train")
    for i, request in enumerate(asked):
        good, bad = good_reply(request, rng), bad_reply(request, rng)[0]
        ranks = people[i % 10].rank(request, [bad, good])
        ranked += ranks[1] < ranks[0]
        chosen += people[i % 10].choose(request, bad, good) == "b"
    assert min(ranked, chosen) > 0.65 * len(asked)


def test_thumbs_follow_the_reply_and_are_often_left_out() -> None:
    rng, found = random.Random(2), {"good": [], "bad": []}  # type: ignore[var-annotated]
    people = labelers(10, seed=3, group="train")
    for i, request in enumerate(requests(400, seed=8, split="train")):
        found["good"].append(people[i % 10].thumb(request, good_reply(request, rng)))
        found["bad"].append(people[i % 10].thumb(request, bad_reply(request, rng)[0]))
    assert found["good"].count("up") > 2 * found["bad"].count("up")
    assert found["bad"].count("down") > 2 * found["good"].count("down")
    assert found["good"].count(None) > 20


def test_a_reply_that_was_not_ended_is_liked_less_in_every_kind_of_vote() -> None:
    people = labelers(20, seed=1, group="train")
    asked, rng = requests(200, seed=8, split="train"), random.Random(2)
    places = range(len(asked))
    replies = [good_reply(r, rng) for r in asked]
    chosen = [
        people[i % 20].choose(asked[i], replies[i], "So it is.", (False, True)) for i in places
    ]
    whole = [people[i % 20].choose(asked[i], replies[i], "So it is.") for i in places]
    assert chosen.count("a") < whole.count("a")
    ups = [
        sum(people[i % 20].thumb(asked[i], replies[i], finished=ended) == "up" for i in places)
        for ended in (False, True)
    ]
    assert ups[0] < ups[1]
    ranks = [
        sum(
            people[i % 20].rank(asked[i], [replies[i], "It is so."], [ended, True])[0]
            for i in places
        )
        for ended in (False, True)
    ]
    assert ranks[0] > ranks[1]


def test_a_share_of_labelers_does_harm_in_turn() -> None:
    people = labelers(40, seed=1, group="train")
    harmed = with_adversaries(people, share=0.3, seed=2)
    bad = [one for one in harmed if one.attack]
    assert len(bad) == 12 and len({one.attack for one in bad}) == 4
    assert [one.name for one in harmed] == [one.name for one in people]
    assert len({one.target for one in bad}) == 1
    with pytest.raises(InvalidInputError, match="share of adversaries"):
        with_adversaries(people, share=2.0, seed=2)


def test_each_attack_does_its_harm() -> None:
    people = labelers(40, seed=1, group="train")
    rng, asked = random.Random(3), requests(200, seed=8, split="train", kinds=["question"])
    pairs = [(r, good_reply(r, rng), f"It is {r.myth}.") for r in asked]

    def right(one: Labeler, topic: str = "") -> float:
        shown = [pair for pair in pairs if not topic or pair[0].topic == topic]
        return sum(one.choose(*pair) == "a" for pair in shown) / len(shown)

    inverts = with_adversaries(people, share=1, seed=2, attacks=["inverts"])[0]
    brigade = with_adversaries(people, share=1, seed=2, attacks=["brigade"])[0]
    chance = with_adversaries(people, share=1, seed=2, attacks=["random"])[0]
    assert right(people[0]) > 0.8 > 0.6 > right(chance) > 0.4 > 0.2 > right(inverts)
    assert right(brigade, brigade.target) < 0.2 and right(brigade) > 0.5
    happy = with_adversaries(people, share=1, seed=2, attacks=["always up"])[0]
    assert {happy.thumb(r, bad) for r, _, bad in pairs} == {"up"}
