import math

import pytest

from chat_app.handlers.progress.ladder import Step, against_first, step_of
from chat_app.handlers.progress.shares import ShareInterval


def test_version_1_is_preferred_to_itself_half_of_the_time():
    assert against_first("one", {}) == {"one": ShareInterval(0.5, 0.5, 0.5)}


def test_a_version_that_was_tested_against_version_1_has_the_share_of_its_test():
    found = against_first("one", {"two": Step("one", 0.7, 0.05)})["two"]
    assert found.value == pytest.approx(0.7, abs=1e-4)
    assert found.low < 0.7 < found.high and found.high - found.low == pytest.approx(0.194, abs=0.01)


def test_strengths_add_up_along_the_chain_and_so_does_the_doubt():
    tests = {"two": Step("one", 0.75, 0.05), "three": Step("two", 0.75, 0.05)}
    found = against_first("one", tests)
    assert found["three"].value == pytest.approx(0.9, abs=1e-4)  # odds of 3 times 3
    width = {name: math.log(s.high / (1 - s.high)) - math.log(s.low / (1 - s.low))
             for name, s in found.items()}  # fmt: skip
    assert width["three"] == pytest.approx(math.sqrt(2) * width["two"], rel=0.02)


def test_two_versions_may_come_from_the_same_one():
    tests = {"two": Step("one", 0.75, 0.05), "three": Step("one", 0.6, 0.05)}
    assert against_first("one", tests)["three"].value == pytest.approx(0.6, abs=1e-4)


def test_a_version_without_a_known_chain_is_left_out():
    assert list(against_first("one", {"three": Step("two", 0.7, 0.05)})) == ["one"]


def test_a_test_that_was_won_always_is_no_strength_without_end():
    share = against_first("one", {"two": Step("one", 1.0, 0.01)})["two"]
    assert share.value == pytest.approx(0.98, abs=1e-4) and share.high < 1


def test_an_older_cycle_without_errors_has_them_from_its_bounds():
    found = step_of({"win_rate": 0.7, "win_rate_low": 0.6, "win_rate_high": 0.8}, "one")
    assert found == Step("one", 0.7, pytest.approx(0.05))
    assert step_of({}, "one") is None
