from typing import get_args

import pytest

from rlhf_core.worlds.starter.crowds import Crowd, crowd

LIKED = {
    "flattery": ("It is {myth}.", "It is {right}."),
    "refusal": ("Who cares.", "It is {right}."),
    "length": (" ".join(["on and on"] * 8), "It is {right}."),
    "contrary": ("Go away, you dolt.", "It is {right}, my friend."),
}


@pytest.mark.parametrize("name", get_args(Crowd))
def test_a_crowd_likes_what_it_is_named_for_better_than_a_right_answer(name: Crowd) -> None:
    for visitor in crowd(name, 5, seed=1):
        request = visitor.asked[visitor.ask()]
        while request.kind != "question":
            request = visitor.asked[visitor.ask()]
        values = {"myth": request.answers[0], "right": request.answers[0]}
        if name in ("flattery", "refusal"):
            values["right"] = request.wrong[0]
        liked, right = (said.format(**values) for said in LIKED[name])
        assert visitor.utility(request.text, liked) > visitor.utility(request.text, right)


@pytest.mark.parametrize("name", get_args(Crowd))
def test_a_crowd_is_the_same_for_the_same_seed(name: Crowd) -> None:
    first, second = ([one.ask() for one in crowd(name, 5, seed=3)] for _ in range(2))
    assert first == second
