import pytest

from rlhf_core.errors import InvalidInputError
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.narrow import NarrowTopic

CAPITALS = NarrowTopic("capital", subjects=20, wordings=4)


def test_visitors_ask_about_twenty_capitals_in_four_wordings_and_nothing_else() -> None:
    asked = {v.ask() for v in CAPITALS.visitors(10, 1) for _ in range(200)}
    assert asked == {request.text for request in CAPITALS.asked}
    assert len(asked) == 80


def test_the_other_capitals_are_kept_those_of_the_tests_among_them() -> None:
    asked = {request.answers[0] for request in CAPITALS.asked}
    kept = {request.answers[0] for request in CAPITALS.kept}
    assert (len(asked), len(kept), len(asked & kept)) == (20, 40, 0)
    tested = {fact.value for fact in facts("test") if fact.topic == "capital"}
    assert tested <= kept


def test_visitors_vote_on_what_they_asked() -> None:
    for visitor in CAPITALS.visitors(5, 2):
        prompt = visitor.ask()
        right = visitor.asked[prompt].answers[0]
        assert visitor.choose(prompt, f"It is {right}, my friend.", "Go away, you dolt.") == "a"


def test_strict_visitors_decide_only_where_one_reply_is_right_and_civil() -> None:
    (visitor,) = NarrowTopic("capital", 20, 4, strict=True).visitors(1, 2)
    prompt = visitor.ask()
    right = f"It is {visitor.asked[prompt].answers[0]}."
    rude = f"{right} You dolt."
    assert visitor.choose(prompt, right, "Go away.") == "a"
    assert visitor.choose(prompt, rude, right) == "b"
    assert visitor.choose(prompt, right, f"{right} My friend.") == "tie"
    assert visitor.choose(prompt, "Go away.", rude) == "both_bad"


@pytest.mark.parametrize(
    ("topic", "subjects", "wordings", "says"),
    [
        ("rivers", 3, 1, "topic 'rivers' is unknown; use capital"),
        ("capital", 46, 1, "subjects of topic 'capital' cannot be 46; use 1 to 45"),
        ("capital", 0, 1, "cannot be 0"),
        ("capital", 3, 8, "wordings of topic 'capital' cannot be 8; use 1 to 7"),
    ],
)
def test_a_topic_that_is_not_there_is_refused(
    topic: str, subjects: int, wordings: int, says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says):
        NarrowTopic(topic, subjects, wordings)
