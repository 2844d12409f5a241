"""What the chat page says before the first message."""

import pytest

from chat_app.handlers.views import Shown
from chat_app.pages.chat_parts import Turns, invitation


@pytest.mark.parametrize("starter", [True, False])
def test_only_the_starter_is_asked_about_its_small_world(starter: bool) -> None:
    empty = invitation(starter)
    assert ("A small model answers" in empty["placeholder"]) == starter
    examples = [example["text"] for example in empty["examples"]]
    assert ("What is the capital of Italy?" in examples) == starter
    assert len(examples) == 3


def test_the_page_sends_roles_and_ids_of_its_messages_and_no_text() -> None:
    said = [("q1", "user", "long " * 900), ("r1", "assistant", "x"), ("", "assistant", "")]
    shown = [Shown(*one) for one in said]
    turns = Turns(Turns.written(shown))
    assert len(Turns.written(shown)) < 20
    assert (turns.id_at(0), turns.id_at(1), turns.id_at(2), turns.last_id) == ("q1", "r1", "", "r1")
    assert [turns.is_reply(n) for n in range(3)] == [False, True, False]
    assert Turns(Turns.written(shown[:2])).last_id == "r1"


@pytest.mark.parametrize("text", ["", " ", "None", "[]", "u", "xyz 1"])
def test_whatever_a_browser_sends_instead_names_no_reply(text: str) -> None:
    turns = Turns(text)
    assert not any(turns.is_reply(index) for index in (-1, 0, 1, None, "0", [0, 1]))
