"""Completions as OpenAI's clients ask for them: stop texts, choices, lengths, nothing kept."""

import json
from typing import Any

import httpx
import openai
import pytest

from chat_app.service.replies import UNSTORED
from tests.chat_app.serving import Running

MESSAGES = [{"role": "user", "content": "hello"}]


def answer(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"messages": MESSAGES, "seed": 4, **body})


def text_of(client: httpx.Client, **body: Any) -> str:
    found = answer(client, **body)
    assert found.status_code == 200, found.text
    return str(found.json()["choices"][0]["message"]["content"])


def chunks(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    lines = [line for line in answer(client, stream=True, **body).iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def rows(served: Running) -> dict[str, int]:
    return dict(served.service.store.counts())


# Stop texts


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_the_reply_and_is_neither_answered_nor_stored(
    served: Running, stream: bool
) -> None:
    with served.client() as client:
        whole = text_of(client, max_tokens=60)
        stop = whole[25:28]
        if stream:
            found = chunks(client, max_tokens=60, stop=["never said", stop])
            said = "".join(c["choices"][0]["delta"].get("content", "") for c in found)
            message_id, reason = found[0]["id"], found[-1]["choices"][0]["finish_reason"]
        else:
            one = answer(client, max_tokens=60, stop=stop).json()
            said, message_id = one["choices"][0]["message"]["content"], one["id"]
            reason = one["choices"][0]["finish_reason"]
    assert said == whole[: whole.index(stop)] and reason == "stop"
    stored = served.service.store.message(message_id)
    assert (stored.content, stored.finish_reason) == (said, "stop")
    assert stored.sampling is not None and stop in stored.sampling["stop"]


@pytest.mark.parametrize("stop", [None, [], "", [""]])
def test_no_stop_text_stops_nothing(served: Running, stop: Any) -> None:
    with served.client() as client:
        assert text_of(client, max_tokens=20, stop=stop) == text_of(client, max_tokens=20)


@pytest.mark.parametrize("stop", [["a", "b", "c", "d", "e"], "x" * 201, "\ud800", 7, [None]])
def test_a_stop_text_that_cannot_be_is_refused_by_its_name(served: Running, stop: Any) -> None:
    body = json.dumps({"messages": MESSAGES, "stop": stop})
    with served.client(**{"content-type": "application/json"}) as client:
        refused = client.post("/v1/chat/completions", content=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"].startswith("stop")


# Several choices


def test_each_choice_is_a_reply_of_its_own_with_its_own_seed(served: Running) -> None:
    with served.client() as client:
        several = answer(client, n=3, max_tokens=20, temperature=1).json()
        alone = [text_of(client, max_tokens=20, temperature=1, seed=4 + i) for i in range(3)]
    choices = several["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in choices] == alone
    assert several["id"] == choices[0]["message_id"]
    assert several["usage"]["completion_tokens"] == 60
    stored = [served.service.store.message(choice["message_id"]) for choice in choices]
    assert [message.content for message in stored] == alone
    assert len({message.parent_id for message in stored}) == 1
    assert [message.seed for message in stored] == [4, 5, 6]


def test_streamed_choices_come_interleaved_each_with_its_index(served: Running) -> None:
    with served.client() as client:
        whole = answer(client, n=3, max_tokens=40).json()["choices"]
        found = chunks(client, n=3, max_tokens=40, stream_options={"include_usage": True})
        *streamed, usage = found
    said, order = ["", "", ""], []
    for chunk in streamed:
        [choice] = chunk["choices"]
        order.append(choice["index"])
        said[choice["index"]] += choice["delta"].get("content", "")
    assert said == [choice["message"]["content"] for choice in whole]
    assert order != sorted(order), "they do not come one after the other"
    assert len({chunk["id"] for chunk in found}) == 1
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 120


@pytest.mark.parametrize("n", [0, -1, 10])
def test_too_many_or_no_choices_are_refused(served: Running, n: int) -> None:
    with served.client() as client:
        refused = answer(client, n=n)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "n")
    assert error["message"] == f"n is {n}; ask for 1 to 9 replies"


# Lengths


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("tokens", [505, 1000, 4096, 10**12, -1, None])
def test_a_reply_is_as_long_as_fits_whatever_is_asked_for(
    served: Running, field: str, tokens: int | None
) -> None:
    with served.client() as client:
        found = answer(client, **{field: tokens}, seed=2).json()
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["total_tokens"] == 512, "the context of the tiny model"


def test_a_reply_that_names_no_length_has_the_services_own(served: Running) -> None:
    with served.client() as client:
        assert answer(client, seed=2).json()["usage"]["completion_tokens"] == 64
        both = answer(client, max_tokens=None, max_completion_tokens=7).json()
    assert both["usage"]["completion_tokens"] == 7


# Nothing kept


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_stored_of_what_a_client_does_not_want_stored(
    served: Running, stream: bool
) -> None:
    with served.client() as client:
        answer(client, max_tokens=2)  # makes the rater
        before = rows(served)
        if stream:
            found = chunks(client, max_tokens=4, store=False)[-1]
        else:
            found = answer(client, max_tokens=4, store=False).json()
        vote = {"message_id": found["id"], "thumb": "up", "idempotency_key": "no row"}
        voted = client.post("/v1/feedback", json=vote)
    assert found["stored"] is False and "store: false" in found["note"]
    assert found["id"].startswith(UNSTORED)
    assert rows(served) == before
    assert voted.status_code == 404 and "was not stored" in voted.json()["error"]["message"]


def test_a_dialogue_that_was_not_stored_is_stored_once_a_client_wants_it(served: Running) -> None:
    with served.client("changes their mind") as client:
        first = text_of(client, store=False, max_tokens=5)
        said = [*MESSAGES, {"role": "assistant", "content": first}, *MESSAGES]
        found = client.post("/v1/chat/completions", json={"messages": said, "max_tokens": 4})
    path = served.service.store.path(found.json()["id"])
    assert [message.content for message in path[:-1]] == ["hello", first, "hello"]
    assert path[1].adapter is None, "nothing says that a policy wrote it"


@pytest.mark.parametrize("wrong", [{"n": 2}, {"store": False}])
def test_a_retry_is_one_stored_reply(served: Running, wrong: dict[str, Any]) -> None:
    with served.client() as client:
        first = answer(client, max_tokens=2).json()["id"]
        refused = answer(client, retry_of=first, **wrong)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "retry_of")


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 9},
        {"top_p": 0},
        {"max_tokens": 0},
        {"n": 99},
        {"stop": list("abcde")},
        {"tools": [{"type": "function"}], "tool_choice": "required"},
        {"model": "gpt-4"},
        {"messages": [*MESSAGES, {"role": "tool", "content": "3"}]},
        {"messages": [{"role": "user", "content": "x" * 600}]},
        {"retry_of": "no such reply"},
    ],
)
def test_nothing_of_a_refused_request_is_stored(served: Running, wrong: dict[str, Any]) -> None:
    with served.client() as client:
        answer(client, max_tokens=2)
        before = rows(served)
        assert answer(client, **wrong).status_code in (400, 404)
    assert rows(served) == before


# Models


def test_the_openai_client_finds_one_model_by_its_name(served: Running) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="a", max_retries=0) as client:
        assert client.models.retrieve("policy").id == "policy"
        assert client.models.retrieve("policy-000000").object == "model"
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("gpt-4")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
