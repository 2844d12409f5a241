"""What the chat page says before the first message."""

import pytest

from chat_app.pages.chat_parts import invitation


@pytest.mark.parametrize("starter", [True, False])
def test_only_the_starter_is_asked_about_its_small_world(starter: bool) -> None:
    empty = invitation(starter)
    assert ("A small model answers" in empty["placeholder"]) == starter
    examples = [example["text"] for example in empty["examples"]]
    assert ("What is the capital of Italy?" in examples) == starter
    assert len(examples) == 3
