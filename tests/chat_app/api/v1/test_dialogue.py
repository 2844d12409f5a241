"""Histories that clients really send, and what the service says of what it cannot take."""

from typing import Any

import httpx
import pytest

from tests.chat_app.serving import Running

USER = {"role": "user", "content": "hi"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def say(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def ask(client: httpx.Client, *messages: dict[str, Any], **more: Any) -> httpx.Response:
    body = {"messages": list(messages), "max_tokens": 3, **more}
    return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize(
    ("messages", "stored"),
    [
        ([say("system", ""), USER], ["user: hi"]),
        ([say("developer", "Be brief."), USER], ["system: Be brief.", "user: hi"]),
        ([USER, say("assistant", ""), USER], ["user: hi", "user: hi"]),
        ([USER, say("assistant", None), USER], ["user: hi", "user: hi"]),
        ([USER, {"role": "assistant"}, USER], ["user: hi", "user: hi"]),
        ([USER, say("assistant", [], tool_calls=[]), USER], ["user: hi", "user: hi"]),
        ([USER, say("assistant", "")], ["user: hi"]),
        ([USER, say("assistant", None, refusal="No."), USER],
         ["user: hi", "assistant: No.", "user: hi"]),
        ([USER, say("assistant", [{"type": "refusal", "refusal": "No."}]), USER],
         ["user: hi", "assistant: No.", "user: hi"]),
        ([say("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], name="Al")],
         ["user: ab"]),
    ],
)  # fmt: skip
def test_what_says_nothing_is_left_out_and_the_rest_is_understood(
    served: Running, messages: list[dict[str, Any]], stored: list[str]
) -> None:
    with served.client() as client:
        found = ask(client, *messages)
    assert found.status_code == 200, found.text
    path = served.service.store.path(found.json()["id"])[:-1]
    assert [f"{message.role}: {message.content}" for message in path] == stored


def test_a_client_that_keeps_an_empty_reply_goes_on_in_its_conversation(served: Running) -> None:
    with served.client("keeps an empty reply") as client:
        said = [USER, say("assistant", ""), say("user", "again")]
        first = ask(client, *said, max_tokens=30, seed=1).json()
        reply = say("assistant", first["choices"][0]["message"]["content"])
        second = ask(client, *said, reply, say("user", "more")).json()
    path = [message.id for message in served.service.store.path(second["id"])]
    assert first["id"] in path


def test_a_reply_of_ours_that_was_empty_is_known_when_it_comes_back(served: Running) -> None:
    with served.client("has an empty reply") as client:
        whole = ask(client, USER, temperature=0, max_tokens=2, store=False).json()
        stop = whole["choices"][0]["message"]["content"][:1]
        first = ask(client, USER, temperature=0, max_tokens=2, stop=stop).json()
        assert first["choices"][0]["message"]["content"] == ""
        second = ask(client, USER, say("assistant", ""), say("user", "more")).json()
    path = [message.id for message in served.service.store.path(second["id"])]
    assert first["id"] in path and len(path) == 4


def test_candidates_end_before_a_stop_text(served: Running) -> None:
    with served.client("stops candidates") as client:
        asked = {"messages": [USER], "temperature": 0, "max_tokens": 9}
        text = ask(client, USER, temperature=0, max_tokens=9).json()["choices"][0]["message"]
        stop = text["content"][3]
        found = client.post("/v1/candidates", json=asked | {"stop": [stop]}).json()
    assert [reply["content"] for reply in found["replies"]] == [text["content"].split(stop)[0]]


@pytest.mark.parametrize(
    ("message", "param", "says"),
    [
        (say("user", [{"type": "text", "text": "What?"}, IMAGE]), "messages.1.content.1",
         "images are not supported"),
        (say("user", [{"type": "input_audio"}]), "messages.1.content.0",
         "audio messages are not supported"),
        (say("user", [{"type": "file"}]), "messages.1.content.0", "files are not supported"),
        (say("user", [{"type": "cube"}]), "messages.1.content.0", "of this type are not"),
        (say("assistant", None, tool_calls=[CALL]), "messages.1.tool_calls",
         "calls of tools are not supported"),
        (say("tool", "3", tool_call_id="1"), "messages.1.role", "results of tools are not"),
        (say("boss", "x"), "messages.1.role", "unknown; use system, user, assistant, developer"),
        (say("user", ""), "messages.1.content", "the message is empty"),
        (say("user", None), "messages.1.content", "the message is empty"),
        (say("user", 7), "messages.1.content", "a text or a list of parts"),
        (say("user", [{"type": "text"}]), "messages.1.content.0", "needs a text"),
        (say("user", ["hi"]), "messages.1.content.0", "valid dictionary"),
        (say("user", "x" * 8001), "messages.1.content", "8001 characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_named_with_its_place(
    served: Running, message: dict[str, Any], param: str, says: str
) -> None:
    with served.client() as client:
        refused = ask(client, USER, message, USER)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param)
    assert error["message"].startswith("messages.1") and says in error["message"]


@pytest.mark.parametrize(
    ("field", "harmless", "refused"),
    [
        ("tool_choice", "auto", "required"),
        ("function_call", "none", {"name": "f"}),
        ("response_format", {"type": "text"}, {"type": "json_object"}),
        ("logprobs", False, True),
        ("top_logprobs", 0, 3),
        ("logit_bias", {}, {"5": 100}),
        ("frequency_penalty", 0, 0.5),
        ("presence_penalty", 0.0, -1),
        ("modalities", ["text"], ["text", "audio"]),
        ("audio", None, {"voice": "alloy", "format": "wav"}),
    ],
)
def test_what_would_change_the_answer_is_refused_and_what_changes_nothing_is_not(
    served: Running, field: str, harmless: Any, refused: Any
) -> None:
    with served.client() as client:
        assert ask(client, USER, **{field: harmless}).status_code == 200
        error = ask(client, USER, **{field: refused}).json()["error"]
    assert error["param"] == field and error["code"] == "unsupported_parameter"
    assert error["message"].startswith(f"{field}: ") and "not supported" in error["message"]


def test_what_only_tells_of_the_caller_is_ignored(served: Running) -> None:
    ignored = {
        "metadata": {"chat": "7"},
        "service_tier": "auto",
        "safety_identifier": "x",
        "prompt_cache_key": "y",
        "parallel_tool_calls": True,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "functions": [{"name": "f"}],
        "reasoning_effort": "low",
        "verbosity": "low",
        "store": True,
        "stream": None,
        "stream_options": None,
        "n": None,
        "temperature": None,
        "top_p": None,
        "seed": None,
        "stop": None,
    }
    with served.client() as client:
        assert ask(client, USER, **ignored).status_code == 200
