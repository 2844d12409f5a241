import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from feedback_store.raters.caps import CapSettings, RaterFacts, cap_factors, counted_as_one

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OLD, NEW = "2026-01-01T00:00:00.000Z", "2026-05-30T00:00:00.000Z"
LIMITS = CapSettings()


def facts_of(weights, since=OLD):
    return [RaterFacts(f"{since}-{i}", weight, since) for i, weight in enumerate(weights)]


def factors(facts, settings=None):
    return cap_factors(facts, now=NOW, settings=settings)


def capped(facts, settings=None):
    """The weights after capping, by rater."""
    found = factors(facts, settings)
    return {fact.rater_id: fact.weight * found.get(fact.rater_id, 1) for fact in facts}


def old_and_new(old, new):
    return facts_of(old) + facts_of(new, NEW)


weight = st.floats(0.01, 1e5) | st.just(0.0) | st.sampled_from([1.0, 10.0, 200.0, 5000.0])
some, many = st.lists(weight, max_size=60), st.lists(weight, min_size=20, max_size=60)
crowds = st.builds(old_and_new, some, many) | st.builds(old_and_new, many, some)


def base_of(facts):
    """The established raters where they hold a real base, else everybody."""
    heard = [fact for fact in facts if fact.weight > 0]
    old = [fact for fact in heard if fact.since == OLD]
    after = capped(old)
    real = len(old) >= LIMITS.base_raters and sum(after.values()) >= LIMITS.base_weight
    return (old, True) if real else (heard, False)


@given(crowds)
def test_no_rater_is_ever_above_a_cap(facts):
    heard = [fact for fact in facts if fact.weight > 0]
    assume(len(heard) >= LIMITS.fewest_raters)
    after = capped(facts)
    base, real = base_of(facts)
    total = sum(after[fact.rater_id] for fact in base)
    share = max(LIMITS.share, LIMITS.times_equal / len(base))
    assert max(after.values()) <= min(LIMITS.most, share * total) * (1 + 1e-9)
    if real:
        new = sum(after[fact.rater_id] for fact in heard if fact.since == NEW)
        assert new <= LIMITS.new_share * sum(after.values()) * (1 + 1e-9)


@given(crowds)
def test_a_factor_only_ever_lowers_and_never_silences(facts):
    for factor in factors(facts).values():
        assert 0 < factor < 1


@given(crowds, st.randoms(use_true_random=False))
def test_the_order_of_the_raters_does_not_matter(facts, random):
    assert factors(random.sample(facts, len(facts))) == factors(facts)


@given(crowds)
def test_capping_what_is_capped_changes_nothing(facts):
    once = capped(facts)
    again = capped([fact._replace(weight=once[fact.rater_id]) for fact in facts])
    assert again == pytest.approx(once)


@given(crowds, st.floats(0.01, 100))
def test_the_shares_do_not_depend_on_the_unit_of_weight(facts, unit):
    shares = CapSettings(most=float("inf"), base_weight=0)
    times = [fact._replace(weight=fact.weight * unit) for fact in facts]
    expected = {rater: weight * unit for rater, weight in capped(facts, shares).items()}
    assert capped(times, shares) == pytest.approx(expected)


@given(st.lists(weight, max_size=9), st.sampled_from([OLD, NEW]))
def test_fewer_than_ten_raters_are_never_capped(weights, since):
    silent = facts_of([0.0] * 5, "2026-02-01T00:00:00.000Z")
    assert factors([*facts_of(weights, since), *silent]) == {}


@given(st.lists(st.floats(0.1, 1e4), min_size=10, max_size=60))
def test_the_share_cap_cuts_as_little_as_it_can(weights):
    """Whoever is cut ends exactly at the cap; with a higher level somebody would be above it."""
    shares = CapSettings(most=float("inf"))
    facts = facts_of(weights)
    after, found = capped(facts, shares), factors(facts, shares)
    cap = max(0.05, 2 / len(weights)) * sum(after.values())
    for rater in found:
        assert after[rater] == pytest.approx(cap)


def merged(facts):
    """The new accounts of each origin as a single account that said all of it."""
    sums = {}
    for fact in facts:
        together = fact.origin is not None and fact.since == NEW
        one = fact.origin if together else fact.rater_id
        known = sums.get(one, fact._replace(rater_id=one, weight=0.0))
        sums[one] = known._replace(weight=known.weight + fact.weight)
    return list(sums.values())


def by_one(facts, weights):
    """Weights by rater, summed as `merged` does."""
    sums = dict.fromkeys((fact.rater_id for fact in merged(facts)), 0.0)
    for fact in facts:
        together = fact.origin is not None and fact.since == NEW
        sums[fact.origin if together else fact.rater_id] += weights[fact.rater_id]
    return sums


def from_places(facts, places):
    return [fact._replace(origin=place) for fact, place in zip(facts, places, strict=True)]


place = st.sampled_from([None, None, "home", "work", "school"])
places_of = st.lists(place, min_size=120, max_size=120)
shared = st.builds(
    lambda facts, places: from_places(facts, places[: len(facts)]), crowds, places_of
)


@given(shared)
def test_new_accounts_of_one_origin_weigh_what_one_account_would_that_said_it_all(facts):
    assert by_one(facts, capped(facts)) == pytest.approx(capped(merged(facts)))


@given(shared, st.integers(2, 20), st.randoms(use_true_random=False))
def test_splitting_an_account_moves_no_weight(facts, parts, random):
    new = [fact for fact in facts if fact.origin is not None and fact.since == NEW]
    assume(new)
    one = random.choice(new)
    cuts = sorted([0, 1, *(random.random() for _ in range(parts - 1))])
    split = [
        one._replace(rater_id=f"part-{n}", weight=one.weight * (end - start))
        for n, (start, end) in enumerate(itertools.pairwise(cuts))
    ]
    before = capped(facts)
    after = capped([fact for fact in facts if fact != one] + split)
    assert sum(after.pop(part.rater_id) for part in split) == pytest.approx(
        before.pop(one.rater_id)
    )
    assert after == pytest.approx(before)


@given(shared, st.randoms(use_true_random=False))
def test_the_order_does_not_matter_with_origins_either(facts, random):
    assert factors(random.sample(facts, len(facts))) == factors(facts)


@given(shared)
def test_capping_again_changes_nothing_with_origins_either(facts):
    once = capped(facts)
    again = capped([fact._replace(weight=once[fact.rater_id]) for fact in facts])
    assert again == pytest.approx(once)


@given(shared)
def test_in_a_group_all_are_cut_by_the_same_factor(facts):
    found = factors(facts)
    for group in counted_as_one(facts, now=NOW).values():
        assert len({found.get(fact.rater_id, 1.0) for fact in group}) == 1


@given(crowds, places_of)
def test_accounts_that_are_old_or_alone_at_their_origin_count_as_without_one(facts, places):
    old = [fact for fact in facts if fact.since == OLD]
    alone = [fact._replace(origin=fact.rater_id) for fact in facts if fact.since == NEW]
    assert factors([*from_places(old, places[: len(old)]), *alone]) == factors(facts)


def test_twenty_new_accounts_of_one_origin_count_as_one_rater_on_a_fresh_service():
    crowd = [fact._replace(origin="x") for fact in facts_of([20.0] * 20, "2026-05-31")]
    after = capped(facts_of([50.0] * 40, NEW) + crowd)
    assert sum(after[fact.rater_id] for fact in crowd) == pytest.approx(2000 * 0.05 / 0.95)


def test_a_service_whose_visitors_all_share_an_address_caps_nobody():
    class_room = [fact._replace(origin="x") for fact in facts_of([10.0] * 30 + [500.0], NEW)]
    assert factors(class_room) == {}


def test_one_loud_rater_among_ten_counts_as_a_fifth():
    after = capped(facts_of([5000.0] + [10.0] * 9))
    assert after[f"{OLD}-0"] == pytest.approx(22.5)  # of 22.5 + 9 * 10
    assert sum(after.values()) == pytest.approx(112.5)


def test_nobody_counts_as_more_than_200_comparisons():
    after = capped(facts_of([500.0] * 3 + [150.0] * 40))
    assert sorted(after.values())[-4:] == pytest.approx([150.0, 200.0, 200.0, 200.0])


def test_new_accounts_together_count_as_a_fifth_beside_a_real_base():
    after = capped(old_and_new([50.0] * 20, [50.0] * 100))
    new = sum(weight for rater, weight in after.items() if rater.startswith(NEW))
    assert new == pytest.approx(250.0)
    assert sum(after.values()) == pytest.approx(1250.0)


def test_one_new_account_is_under_the_share_cap_of_the_base_too():
    after = capped(old_and_new([50.0] * 20, [200.0, 20.0]))
    assert after[f"{NEW}-0"] == pytest.approx(100.0)  # a tenth of 20 * 50
    assert after[f"{NEW}-1"] == 20.0


@pytest.mark.parametrize("old", [[50.0] * 9, [19.0] * 10, [5000.0] + [1.0] * 9])
def test_without_a_real_base_new_accounts_count_in_full(old):
    after = capped(old_and_new(old, [50.0] * 100))
    assert [weight for rater, weight in after.items() if rater.startswith(NEW)] == [50.0] * 100


def test_more_accounts_do_not_help_new_ones_beside_a_base():
    few = capped(old_and_new([50.0] * 20, [200.0] * 10))
    many = capped(old_and_new([50.0] * 20, [200.0] * 1000))
    for after in (few, many):
        new = sum(weight for rater, weight in after.items() if rater.startswith(NEW))
        assert new == pytest.approx(250.0)


def test_an_account_is_new_until_it_is_seven_days_old():
    week = [NOW - timedelta(days=7) + timedelta(seconds=s) for s in (-1, 1)]
    base = facts_of([50.0] * 20)
    older, newer = (
        capped([*base, *facts_of([40.0] * 30, moment.isoformat().replace("+00:00", ".000Z"))])
        for moment in week
    )
    assert sum(older.values()) == pytest.approx(2200.0)
    assert sum(newer.values()) == pytest.approx(1250.0)
