"""Chores of chat clients are answered, and nothing of them is stored."""

from typing import Any

import pytest

from chat_app.api.v1.chores import is_chore
from feedback_store.records import PromptMessage
from tests.chat_app.serving import Running

HISTORY = "<chat_history>\nUSER: What is the capital of Peru?\nASSISTANT: Lima.\n</chat_history>"
CHORES = {  # in the words of the clients, shortened
    "title": f"### Task:\nGenerate a title.\n### Output:\nJSON\n### Chat History:\n{HISTORY}",
    "tags": f"### Task:\nGenerate 1-3 broad tags.\n### Guidelines:\n- x\n{HISTORY}",
    "follow-ups": f"### Task:\nSuggest 3-5 relevant follow-up questions.\n{HISTORY}",
    "autocomplete": "### Task:\nYou are an autocompletion system.\n<type>General</type>\n"
    "<text>The sun</text>\n#### Output:",
    "emoji": "Your task is to reflect the speaker's likely facial expression through a fitting "
    'emoji. Message: """hi"""',
    "librechat title": "Provide a concise, 5-word-or-less title for the conversation, using title "
    "case conventions. Only return the title itself.\n\nConversation:\nUser: hi",
    "librechat title and language": "Analyze this conversation and provide:\n1. The detected "
    "language of the conversation\n2. A concise title in the detected language (5 words or less)",
}
QUESTIONS = {
    "with found documents": "### Task:\nRespond to the user query using the provided context.\n"
    "<context>Lima</context>\n<user_query>Capital of Peru?</user_query>",
    "about a title": "Write a concise title for my essay about Peru.",
    "about a task": "### Task:\nName three rivers.",
}


def asked(text: str) -> list[PromptMessage]:
    return [PromptMessage(role="user", content=text)]


@pytest.mark.parametrize("name", CHORES)
def test_a_clients_chore_is_answered_and_not_stored(served: Running, name: str) -> None:
    store = served.service.store
    # A tiny model has a small context, and clients know nothing of it.
    body: dict[str, Any] = {"messages": asked(CHORES[name] + " " * 3 + "x" * 2000)}
    if name != "autocomplete":
        body["max_tokens"] = 1000
    with served.client() as client:
        client.post("/v1/chat/completions", json={"messages": asked("hi"), "max_tokens": 2})
        before = store.counts()
        found = client.post("/v1/chat/completions", json=body)
    assert found.status_code == 200, found.text
    assert found.json()["stored"] is False and "chore" in found.json()["note"]
    assert store.counts() == before


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_persons_question_is_no_chore(name: str) -> None:
    assert not is_chore(asked(QUESTIONS[name]), None)


def test_a_prompt_of_a_chore_inside_a_dialogue_is_a_persons() -> None:
    said = [*asked("hi"), PromptMessage(role="assistant", content="hi"), *asked(CHORES["title"])]
    assert not is_chore(said, {"task": "title_generation"})


def test_a_client_may_name_its_chore() -> None:
    assert is_chore(asked("Make a title"), {"task": "title_generation"})
    assert not is_chore(asked("Make a title"), {"task": "homework", "chat": 7})
    assert not is_chore(asked("Make a title"), ["task"])


def test_a_chore_that_fits_is_answered_as_it_is(served: Running) -> None:
    with served.client() as client:
        chore = {"messages": asked(CHORES["emoji"]), "max_tokens": 4, "seed": 1}
        one = client.post("/v1/chat/completions", json=chore).json()
        same = client.post("/v1/chat/completions", json={**chore, "store": False}).json()
    assert one["choices"][0]["message"] == same["choices"][0]["message"]
    assert one["usage"]["prompt_tokens"] > len(CHORES["emoji"])
