"""How much a rater or an address may ask for in a time, by a clock that the test moves."""

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.errors import BusyError, TooManyError
from chat_app.service import rates as rates_module
from chat_app.service.rates import Buckets, Latest, Rates
from chat_app.settings import RateSettings


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bucket_that_is_empty_tells_when_there_is_enough_again() -> None:
    clock = Clock()
    buckets = Buckets(10, 60.0, now=clock)
    assert [buckets.take("ann") for _ in range(10)] == [0.0] * 10
    assert buckets.take("ann") == pytest.approx(6.0)
    assert buckets.take("bob") == 0.0, "everybody has a bucket"
    clock.seconds += 6.0
    assert buckets.take("ann") == 0.0 and buckets.take("ann") > 0


def test_what_is_known_only_afterwards_may_take_more_than_there_is() -> None:
    clock = Clock()
    buckets = Buckets(10, 10.0, now=clock)
    assert buckets.take("ann", 30, at_least=1) == 0.0
    assert buckets.take("ann", 0, at_least=1) == pytest.approx(21.0)
    clock.seconds += 21.0
    assert buckets.take("ann", 0, at_least=1) == 0.0


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=40))
def test_never_more_is_taken_than_was_there_and_has_flowed_in(
    steps: list[tuple[float, int]],
) -> None:
    clock = Clock()
    buckets = Buckets(10, 10.0, now=clock)
    taken = 0
    for seconds, units in steps:
        clock.seconds += seconds
        taken += units if buckets.take("ann", units) == 0.0 else 0
    assert taken <= 10 + (clock.seconds - 100.0) + 1e-6


def test_of_what_callers_name_only_the_latest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "KEPT", 2)
    known = Latest[str]()
    for rater in ("ann", "bob", "ann", "eve"):
        known[rater] = f"of {rater}"
    assert dict(known) == {"ann": "of ann", "eve": "of eve"}


def test_one_person_in_a_hurry_meets_no_limit() -> None:
    rates = Rates(RateSettings(), room=160)
    for _ in range(100):
        rates.request("ann", "127.0.0.1")
    for _ in range(30):
        rates.vote("ann")
    rates.reserve("ann")()
    rates.tokens("ann", 2_000)


def test_a_rater_who_asks_on_and_on_is_refused_and_others_are_not() -> None:
    rates = Rates(RateSettings(requests_per_minute=20), room=160)
    for _ in range(10):
        rates.request("mallory", "203.0.113.9")
    with pytest.raises(TooManyError, match="too many requests; try again in") as refused:
        rates.request("mallory", "203.0.113.9")
    assert 0 < refused.value.seconds <= 3
    rates.request("ann", "203.0.113.9")


def test_an_address_has_a_limit_of_its_own_whoever_asks() -> None:
    rates = Rates(RateSettings(address_requests_per_minute=60), room=160)
    for _ in range(10):
        rates.address("203.0.113.9")
    with pytest.raises(TooManyError, match="too many requests from your address"):
        rates.address("203.0.113.9")
    rates.address("198.51.100.7")


def test_one_address_cannot_make_new_raters_without_end() -> None:
    rates = Rates(RateSettings(new_raters_per_hour=30), room=160)
    for n in range(30):
        rates.new_rater(f"new-{n}", "203.0.113.9")
        rates.new_rater(f"new-{n}", "203.0.113.9")  # who is counted once
    with pytest.raises(TooManyError, match="new visitors from your address"):
        rates.new_rater("one-more", "203.0.113.9")
    rates.new_rater("one-more", "203.0.113.10")
    rates.exempt("simulated")
    rates.new_rater("simulated", "203.0.113.9")


def test_a_rater_has_few_replies_at_once_and_each_end_makes_room() -> None:
    rates = Rates(RateSettings(replies_at_once=2), room=160)
    first, second = rates.reserve("ann"), rates.reserve("ann")
    with pytest.raises(TooManyError, match="2 replies are being written for you"):
        rates.reserve("ann")
    rates.reserve("bob", 4)()  # one request is never too many
    first()
    first()  # which ends once
    third = rates.reserve("ann")
    with pytest.raises(TooManyError):
        rates.reserve("ann")
    second()
    third()
    rates.reserve("ann", 2)()


def test_tokens_that_were_used_up_have_to_flow_in_again() -> None:
    rates = Rates(RateSettings(tokens_per_minute=1000), room=160)
    rates.tokens("ann", 5000)
    with pytest.raises(TooManyError, match="too many tokens; try again in 24"):
        rates.reserve("ann")


def test_many_names_of_one_address_leave_room_for_other_addresses() -> None:
    rates = Rates(RateSettings(replies_at_once=4), room=20)
    for n in range(20):
        rates.request(f"name-{n}", "203.0.113.9")
    rooms = []
    for n in range(20):
        with suppress(BusyError):
            rooms.append(rates.reserve(f"name-{n}", 2))
    assert len(rooms) == 5, "half of the room"
    with pytest.raises(BusyError):
        rates.address("203.0.113.9", replies=True)
    rates.address("203.0.113.9")  # a vote is welcome
    rates.address("198.51.100.7", replies=True)
    rates.request("ann", "198.51.100.7")
    rates.reserve("ann", 4)()
    for room in rooms:
        room()
    rates.reserve("name-7", 4)()


def test_whose_name_is_proven_and_who_is_simulated_has_an_account_alone() -> None:
    rates = Rates(RateSettings(), room=160)
    rates.exempt("simulated-7")
    for rater in ("key-ann", "user-bob", "simulated-7", "token-eve"):
        rates.request(rater, "203.0.113.9")
    accounts = [rates.source(r) for r in ("key-ann", "user-bob", "simulated-7", "token-eve")]
    assert accounts == ["key-ann", "user-bob", "simulated-7", "203.0.113.9"]


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 4)), max_size=80),
    st.integers(1, 9),
)
def test_whoever_comes_first_time_finds_room_unless_all_is_taken(
    asked: list[tuple[str, int]], room: int
) -> None:
    rates = Rates(RateSettings(replies_at_once=100), room=room)
    taken: Counter[str] = Counter()
    for rater, n in asked:
        try:
            rates.reserve(rater, n)
        except BusyError:
            free = room - taken.total()
            assert n > free or (taken[rater] and taken[rater] + n > free)
        else:
            assert taken.total() + n <= room or not taken, "a request alone is not too many"
            taken[rater] += n
