import pytest

from chat_app.handlers.progress.values import FEWEST, Values, values_of
from feedback_store.raters.whose import VoteFact


def vote(name, weight=1.0, kind="person"):
    return VoteFact(name, kind, "choice", weight, "q", "q", "Latn", None, 0, name)


def test_nothing_is_said_of_fewer_than_five_raters():
    assert values_of([vote(str(n)) for n in range(FEWEST - 1)]) == Values()
    assert values_of([vote(str(n)) for n in range(FEWEST)]).people == FEWEST
    assert values_of([vote("ann")], fewest=1).people == 1, "the operator sees every rater anyway"


def test_who_does_not_count_is_none_of_the_raters():
    assert values_of([*(vote(str(n)) for n in range(4)), vote("bad", weight=0)]) == Values()


def test_equal_raters_are_as_many_as_they_are():
    found = values_of([vote(str(n)) for n in range(8)])
    assert (found.people, found.most_active, found.effective) == (8, 0.125, 8.0)


def test_one_rater_who_says_nearly_everything_makes_the_others_count_little():
    found = values_of([vote("busy", 960), *(vote(str(n), 10) for n in range(4))])
    assert found.most_active == 0.96 and found.effective == pytest.approx(1.1, abs=0.05)


def test_people_and_programs_are_told_apart():
    people = [vote(str(n)) for n in range(5)]
    robots = [vote(f"robot-{n}", kind="simulated") for n in range(5)]
    found = [values_of(some) for some in (people, people + robots, robots, people[:4] + robots)]
    assert [(one.people, one.programs) for one in found] == [(5, 0), (5, 5), (0, 5), (None, 5)]
    assert found[1].effective == 10, "of both, of whom no more can be said to have voted"
    assert values_of(robots[:1]) == Values(0, 1, 1.0, 1.0)
