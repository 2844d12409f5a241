"""What a client says in headers, and replies that go on: names, people, chores, swaps."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from feedback_store.records import BASE_ADAPTER
from tests.chat_app.serving import Running

MESSAGE, TASK = "X-Feedback-Chat-Message", "X-Feedback-Chat-Task"
QUESTION = {"role": "user", "content": "name some rivers"}


def ask(client: httpx.Client, *more: dict[str, str], headers: Any = None, **body: Any) -> Any:
    body = {"messages": [QUESTION, *more], "max_tokens": 3, **body}
    return client.post("/v1/chat/completions", json=body, headers=headers)


def vote(client: httpx.Client, name: str, thumb: str = "up", key: str = "") -> httpx.Response:
    body = {"client_message": name, "thumb": thumb, "idempotency_key": key or str(uuid4())}
    return client.post("/v1/feedback", json=body)


def begun(client: httpx.Client) -> tuple[str, dict[str, str]]:
    """A stored reply that reads back as it is: its id, and the message to send back."""
    for seed in range(100):
        found = ask(client, seed=seed).json()
        text = found["choices"][0]["message"]["content"]
        if text.isascii() and text.strip() == text != "":
            return found["id"], {"role": "assistant", "content": text}
    raise AssertionError("a random model writes such a reply before long")


@pytest.mark.parametrize("name", ["{{MESSAGE_ID}}", "chat-${ID}", "None", "null"])
@pytest.mark.parametrize("header", [MESSAGE, TASK])
def test_a_header_that_a_client_did_not_fill_in_is_refused(
    served: Running, header: str, name: str
) -> None:
    with served.client("unfilled") as client:
        ask(client)
        before = served.service.store.counts()
        found = ask(client, headers={header: name})
    assert found.status_code == 400
    assert header in found.text and name in found.text and "0.12" in found.text
    assert served.service.store.counts() == before


@pytest.mark.parametrize("header", ["X-Feedback-Chat-User", "X-OpenWebUI-User-Id"])
def test_no_two_people_are_one_because_a_client_fills_nothing_in(
    served: Running, header: str
) -> None:
    key = served.service.store.make_key(header[2:20], gateway=True, by="operator")[1]
    with served.client(key, **{header: "{{USER_ID}}"}) as client:
        answers = [ask(client), client.get("/v1/me"), vote(client, "m")]
    assert [found.status_code for found in answers] == [400, 400, 400]
    assert all(header.lower() in found.text.lower() for found in answers)


@pytest.mark.parametrize(
    ("sent", "voted"),
    [
        ("namé".encode(), "namé"),
        ("namé".encode("latin-1"), "namé"),
        ("名前".encode(), " 名前\n"),
        (b"spaces", "spaces"),
        (b"spaces too", " spaces too "),
        (b"x" * 200, "x" * 200 + " "),
    ],
)
def test_a_name_is_the_same_in_a_header_and_in_a_vote(
    served: Running, sent: bytes, voted: str
) -> None:
    with served.client("namer") as client:
        reply = ask(client, headers={MESSAGE: sent}).json()["id"]
        assert vote(client, voted).json()["message_id"] == reply


def test_a_name_that_cannot_be_is_refused_in_both_places(served: Running) -> None:
    with served.client("long namer") as client:
        asked, long = ask(client, headers={MESSAGE: "x" * 201}), vote(client, "x" * 201)
        empty, unknown = vote(client, " "), vote(client, "y" * 200)
    assert [found.status_code for found in (asked, long, empty, unknown)] == [400, 400, 400, 404]
    assert MESSAGE in asked.text and "client_message" in long.text
    assert all("201 characters; send 1 to 200" in found.text for found in (asked, long))
    assert all(
        "x" * 61 not in found.text and "y" * 61 not in found.text for found in (long, unknown)
    )


def test_a_name_that_comes_again_leaves_the_thumb_on_the_other_reply(served: Running) -> None:
    with served.client("carl") as client:
        replies = []
        for text in ("one question", "another question"):
            body = {"messages": [{"role": "user", "content": text}]}
            replies.append(ask(client, headers={MESSAGE: "msg-1"}, **body).json()["id"])
            again = vote(client, "msg-1", key="k").json()
            assert again["message_id"] == replies[0], "the same request is answered as at first"
        assert vote(client, "msg-1", "down").json()["message_id"] == replies[1]
    said = {thumb.message_id: thumb.value for thumb in served.service.store.thumbs()}
    assert [said[reply] for reply in replies] == [1, -1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("retry_of", ["nonsense", "another question's"])
def test_a_retry_that_cannot_be_is_refused_before_the_reply_goes_on(
    served: Running, retry_of: str, stream: bool
) -> None:
    with served.client("retries") as client:
        _, said = begun(client)
        other = [{"role": "user", "content": "how are you"}]
        if retry_of != "nonsense":
            retry_of = ask(client, messages=other).json()["id"]
        before = served.service.store.counts()
        found = ask(client, said, retry_of=retry_of, stream=stream)
    assert (found.status_code, "data:" in found.text) == (
        404 if retry_of == "nonsense" else 400,
        False,
    )
    assert served.service.store.counts() == before


def test_a_reply_that_goes_on_may_be_a_retry_of_its_beginning(served: Running) -> None:
    with served.client("retries well") as client:
        first, said = begun(client)
        whole = ask(client, said, retry_of=first)
    assert whole.status_code == 200, whole.text
    stored = served.service.store.message(whole.json()["id"])
    assert stored.content.startswith(said["content"])


def test_a_swap_of_the_adapter_does_not_put_a_beginning_to_the_new_ones_name(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, old = served.service, "policy-000007"
    check, store = service.engine.check, service.store

    async def swapped_meanwhile(request: Any) -> None:
        service.adapter = BASE_ADAPTER
        await check(replace(request, adapter=BASE_ADAPTER))

    with served.client("swapped") as client:
        other = store.message(ask(client).json()["id"])
        store.register_adapter(old, kind="policy", state="published")
        store.add_message(
            other.conversation_id, "assistant", "The", parent_id=other.parent_id, adapter=old
        )
        before = store.counts()
        monkeypatch.setattr(service.engine, "check", swapped_meanwhile)
        service.adapter = old  # until the watcher looks again
        found = ask(client, {"role": "assistant", "content": "The"}).json()
    assert found.get("model") == BASE_ADAPTER, found
    assert found["stored"] is False and "did not begin" in found["note"]
    assert service.store.counts() == before
