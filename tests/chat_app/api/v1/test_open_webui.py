"""Open WebUI as the front end: its requests, as version 0.12.4 sent them, and our function in it.

The requests are in `open_webui.json`: one chat of one person, the texts of chores shortened. A text
such as ``<first>`` stands for the reply to the request of that name. The real program is started
in `tests/end_to_end/test_open_webui.py`.
"""

import asyncio
import importlib.util
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from feedback_store.records import Message
from tests.chat_app.serving import Running

RECORDED = json.loads(Path(__file__).with_name("open_webui.json").read_text())
ANN, BEN = RECORDED["user"], "a-second-person"
FUNCTION = Path(__file__).parents[4] / "deploy" / "open_webui" / "feedback_chat.py"


def gateway(served: Running, name: str) -> str:
    """The text of a new gateway's key."""
    return served.service.store.make_key(name, gateway=True, by="operator")[1]


def answered(found: httpx.Response) -> str:
    """What a reply adds, streamed or not."""
    if not found.headers["content-type"].startswith("text/event-stream"):
        return str(found.json()["choices"][0]["message"]["content"])
    lines = [line[6:] for line in found.text.splitlines() if line.startswith("data: {")]
    chunks = [json.loads(line)["choices"][0]["delta"] for line in lines]
    return "".join(chunk.get("content", "") for chunk in chunks)


def replay(
    client: httpx.Client, *names: str, user: str = ANN, replies: dict[str, str] | None = None
) -> dict[str, str]:
    """Send the recorded requests, or these of them; the replies by the names of the requests.

    ``replies`` are those to requests that were sent before.
    """
    replies = {} if replies is None else replies
    for one in RECORDED["requests"]:
        if names and one["name"] not in names:
            continue
        body = json.loads(json.dumps(one["body"]))
        for said in body["messages"]:
            said["content"] = replies.get(said["content"].strip("<>"), said["content"])
        headers = {"X-Feedback-Chat-User": user, "X-Feedback-Chat-Message": one["message"]}
        headers["X-Feedback-Chat-Task"] = one["task"]
        found = client.post("/v1/chat/completions", json=body | {"seed": 1}, headers=headers)
        assert found.status_code == 200, (one["name"], found.text)
        replies[one["name"]] = answered(found)
    return replies


def message_of(name: str) -> str:
    """What Open WebUI calls the reply to a recorded request."""
    return next(str(one["message"]) for one in RECORDED["requests"] if one["name"] == name)


def named(served: Running, key: str, name: str, *, user: str = ANN) -> Message:
    """The stored reply to a recorded request."""
    rater = served.identity.person(served.identity.key(key), user)
    return served.service.store.replies_of_client(message_of(name), rater_id=rater)[0]


def test_a_recorded_chat_is_answered_and_its_chores_are_not_stored(served: Running) -> None:
    store, key = served.service.store, gateway(served, "chat")
    with served.client(key) as client:
        replies = replay(client)
    assert len(replies) == 8
    rater = served.identity.person(served.identity.key(key), ANN)
    assert len(store.conversations(rater)) == 1, "no chore made one"
    path = store.path(named(served, key, "third").id)
    assert [message.role for message in path] == ["user", "assistant"] * 3
    assert path[-1].adapter == "policy-000000"


def test_a_vote_ends_on_the_reply_that_the_client_named(served: Running) -> None:
    key = gateway(served, "votes")
    with served.client(key, **{"X-Feedback-Chat-User": ANN}) as client:
        replay(client, "first")
        vote = {"client_message": message_of("first"), "thumb": "up", "idempotency_key": "1"}
        given = client.post("/v1/feedback", json=vote).json()
        assert given["message_id"] == named(served, key, "first").id and given["trains"]
        other = client.post("/v1/feedback", json=vote, headers={"X-Feedback-Chat-User": BEN})
        assert other.status_code == 404 and message_of("first") in other.text
        both = client.post("/v1/feedback", json=vote | {"message_id": given["message_id"]})
        assert both.status_code == 400 and "not both" in both.text


def test_open_webuis_own_header_names_a_person_to_a_gateways_key_alone(served: Running) -> None:
    key = gateway(served, "own-header")
    plain = served.service.store.make_key("plain", by="operator")[1]

    def rater(text: str, **headers: str) -> Any:
        with served.client(text, **headers) as client:
            return client.get("/v1/feedback/me").json()["rater"]

    people = {rater(key, **{"X-OpenWebUI-User-Id": user}) for user in (ANN, BEN)}
    assert len(people | {rater(key)}) == 3
    assert rater(plain, **{"X-OpenWebUI-User-Id": ANN}) == rater(plain)
    assert not any(ANN in one for one in people), "a pseudonym"


def test_a_reply_that_was_cut_goes_on_where_it_ended(served: Running) -> None:
    key = gateway(served, "on")
    with served.client(key, **{"X-Feedback-Chat-User": ANN}) as client:

        def ask(number: int, *more: dict[str, str], **options: Any) -> dict[str, Any]:
            asked = {"role": "user", "content": f"Name {number} rivers"}
            body = {"messages": [asked, *more], "temperature": 0, **options}
            found = client.post("/v1/chat/completions", json=body)
            assert found.status_code == 200, found.text
            return dict(found.json())

        def said(found: dict[str, Any]) -> str:
            return str(found["choices"][0]["message"]["content"])

        for number in range(100):  # a random model also writes halves of characters
            begun, whole = ask(number, max_tokens=3), ask(number, max_tokens=6, store=False)
            if said(begun).isascii() and "\ufffd" not in said(whole) and said(begun).strip():
                break
        rest = ask(number, {"role": "assistant", "content": said(begun)}, max_tokens=3)
        foreign = ask(number, {"role": "assistant", "content": "The Nile"}, max_tokens=4)
    assert said(begun) + said(rest) == said(whole)
    stored = served.service.store.message(rest["id"])
    assert stored.content == said(whole) and stored.adapter == "policy-000000"
    assert stored.parent_id == served.service.store.message(begun["id"]).parent_id
    assert foreign["stored"] is False and "did not begin" in foreign["note"]


def test_what_librechat_sends_by_default_is_answered(served: Running) -> None:
    key = gateway(served, "librechat")
    settings = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
    settings |= {"model": "policy", "stream": True, "user": "64f0c0ffee", "stop": []}
    settings |= {"stream_options": {"include_usage": True}, "logit_bias": {}, "max_tokens": None}
    asked = {"messages": [{"role": "user", "content": "hi how are you"}]}
    with served.client(key) as client:
        found = client.post("/v1/chat/completions", json=settings | asked)
        assert found.status_code == 200 and '"usage"' in found.text
        me = client.get("/v1/me", headers={"X-Feedback-Chat-User": "64f0c0ffee"})
    assert "hi how are you" in me.text


# The function


@dataclass
class Feedback:
    """One row of Open WebUI's table of feedback."""

    id: str
    user_id: str
    meta: dict[str, Any]
    data: dict[str, Any] | None
    updated_at: int = 1


@dataclass
class Feedbacks:
    """Open WebUI's table of feedback, as far as the function reads it."""

    rows: dict[str, Feedback] = field(default_factory=dict)

    async def get_all_feedback_ids(self) -> list[Feedback]:
        return list(self.rows.values())

    async def get_feedback_by_id(self, one: str) -> Feedback | None:
        return self.rows.get(one)


@dataclass
class Inside:
    """The function inside something like Open WebUI."""

    feedbacks: Feedbacks
    function: Any
    replies: dict[str, dict[str, str]] = field(default_factory=dict)  # by the person

    def rate(self, name: str, rating: int | None, *, user: str = ANN, **more: Any) -> None:
        """What happens when somebody rates a reply."""
        data = {"rating": rating, "reason": None, "comment": None, "details": None, **more}
        one = f"f-{message_of(name)}-{user}"
        before = self.feedbacks.rows.get(one)
        at = before.updated_at + 1 if before else 1
        row = Feedback(one, user, {"message_id": message_of(name)}, data, at)
        self.feedbacks.rows[one] = row
        self.happens("feedback.updated", one)

    def happens(self, name: str, subject: str = "") -> None:
        asyncio.run(self.function.event({"event": name, "subject": {"id": subject}}))


@pytest.fixture
def inside(served: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """The function, with the modules of Open WebUI that it imports, and a gateway's key."""
    feedbacks = Feedbacks()
    theirs = {"env": ("DATA_DIR", tmp_path), "models.feedbacks": ("Feedbacks", feedbacks)}
    for name, value in theirs.items():
        module = ModuleType(f"open_webui.{name}")
        setattr(module, *value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("webui_function", FUNCTION)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = module.Event()
    key = gateway(served, tmp_path.name[:60])
    function.valves = function.Valves(url=f"{served.url}/v1/", key=key)
    return Inside(feedbacks, function)


def thumbs(served: Running, inside: Inside, user: str = ANN) -> list[tuple[str, int, Any, str]]:
    """The thumbs of a person that stand: whose message, value, reasons, comment."""
    rater = served.identity.person(served.identity.key(inside.function.valves.key), user)
    said = [thumb for thumb in served.service.store.thumbs() if thumb.rater_id == rater]
    return [(t.message_id, t.value, t.tags, t.comment) for t in said if t.value]


def chatted(served: Running, inside: Inside, *names: str, user: str = ANN) -> list[str]:
    """Replay a chat with the function's key; our ids of the replies."""
    key = inside.function.valves.key
    with served.client(key) as client:
        replay(client, *names, user=user, replies=inside.replies.setdefault(user, {}))
    return [named(served, key, name, user=user).id for name in names]


def test_a_thumb_with_points_reason_and_comment_comes_over(served: Running, inside: Inside) -> None:
    first, second = chatted(served, inside, "first", "second")
    more = {"reason": "accurate_information", "comment": "short", "details": {"rating": 8}}
    inside.rate("first", 1, **more)
    inside.rate("second", -1, reason="being_lazy")
    assert thumbs(served, inside) == [
        (first, 1, ("correct",), "8 of 10; short"),
        (second, -1, (), "being lazy"),
    ]


def test_two_people_are_two_raters(served: Running, inside: Inside) -> None:
    for user in (ANN, BEN):
        chatted(served, inside, "first", user=user)
        inside.rate("first", 1 if user == ANN else -1, user=user)
    assert [thumbs(served, inside, user)[0][1] for user in (ANN, BEN)] == [1, -1]


def test_a_changed_thumb_changes_and_one_that_is_gone_is_taken_back(
    served: Running, inside: Inside
) -> None:
    first, second = chatted(served, inside, "first", "second")
    inside.rate("first", 1)
    inside.rate("second", 1)
    inside.rate("first", -1, reason="accurate_information")  # left from before the change
    assert sorted(thumbs(served, inside)) == sorted(
        [(first, -1, (), "accurate information"), (second, 1, (), "")]
    )
    inside.feedbacks.rows.clear()
    inside.happens("feedback.deleted_all", "all")
    assert thumbs(served, inside) == []


def test_a_thumb_on_a_reply_moves_with_it_when_it_went_on(served: Running, inside: Inside) -> None:
    chatted(served, inside, "first", "second", "regenerate")
    begun = named(served, inside.function.valves.key, "regenerate").id
    inside.rate("regenerate", -1)
    assert [thumb[0] for thumb in thumbs(served, inside)] == [begun]
    (rest,) = chatted(served, inside, "continue")
    inside.rate("continue", 1)
    assert [thumb[:2] for thumb in thumbs(served, inside)] == [(rest, 1)]
    inside.feedbacks.rows.clear()
    inside.happens("feedback.deleted_all", "all")
    assert thumbs(served, inside) == []


def test_the_same_thumb_after_the_reply_went_on_is_on_the_whole(
    served: Running, inside: Inside
) -> None:
    chatted(served, inside, "first", "second", "regenerate")
    inside.rate("regenerate", 1)
    (rest,) = chatted(served, inside, "continue")
    inside.rate("continue", 1)
    assert [thumb[:2] for thumb in thumbs(served, inside)] == [(rest, 1)]


def test_a_thumb_that_was_refused_is_sent_again_when_it_is_given_again(
    served: Running, inside: Inside
) -> None:
    chatted(served, inside, "first")
    inside.rate("second", 1)
    assert thumbs(served, inside) == [], "nobody knows the reply"
    (second,) = chatted(served, inside, "second")
    inside.happens("feedback.created", "of another")
    assert thumbs(served, inside) == [], "no later attempt of its own"
    inside.rate("second", 1)
    assert [thumb[0] for thumb in thumbs(served, inside)] == [second]


def test_a_thumb_that_was_refused_is_not_taken_back(served: Running, inside: Inside) -> None:
    inside.rate("first", 1)
    chatted(served, inside, "first")
    inside.feedbacks.rows.clear()
    inside.happens("feedback.deleted_all", "all")
    rater = served.identity.person(served.identity.key(inside.function.valves.key), ANN)
    assert served.service.receipts(rater) == []


def test_a_change_that_was_refused_does_not_hide_the_thumb_before_it(
    served: Running, inside: Inside
) -> None:
    chatted(served, inside, "first")
    inside.rate("first", 1)
    inside.rate("first", -1, comment="\ud800")  # a 400
    assert [thumb[1] for thumb in thumbs(served, inside)] == [1]
    inside.feedbacks.rows.clear()
    inside.happens("feedback.deleted_all", "all")
    assert thumbs(served, inside) == []


def test_a_vote_that_always_fails_holds_up_no_other(
    served: Running, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = chatted(served, inside, "first", "second")
    give = served.service.thumb_by_client

    def failing(rater_id: str, client_message: str, value: int, **more: Any) -> Any:
        if client_message == message_of("first"):
            raise RuntimeError("for ever")
        return give(rater_id, client_message, value, **more)

    monkeypatch.setattr(served.service, "thumb_by_client", failing)
    inside.rate("first", 1)
    inside.rate("second", 1)
    assert [thumb[0] for thumb in thumbs(served, inside)] == [second]
    monkeypatch.undo()
    inside.happens("system.startup.completed")
    assert len(thumbs(served, inside)) == 2


def test_what_was_stored_while_the_connection_broke_is_not_stored_again(
    served: Running, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatted(served, inside, "first")
    post, keys = httpx.AsyncClient.post, []

    async def breaking(client: httpx.AsyncClient, url: str, **more: Any) -> httpx.Response:
        keys.append(more["json"]["idempotency_key"])
        await post(client, url, **more)
        raise httpx.ReadTimeout("no answer")

    monkeypatch.setattr(httpx.AsyncClient, "post", breaking)
    inside.rate("first", 1)
    inside.happens("system.startup.completed")
    assert len(keys) == 2 and len(set(keys)) == 1
    monkeypatch.setattr(httpx.AsyncClient, "post", post)
    inside.happens("system.startup.completed")
    inside.rate("first", -1)
    inside.rate("first", 1)
    assert [thumb[1] for thumb in thumbs(served, inside)] == [1]
    rater = served.identity.person(served.identity.key(inside.function.valves.key), ANN)
    assert len(served.service.receipts(rater)) == 3


def test_the_same_thumb_is_carried_once(served: Running, inside: Inside) -> None:
    chatted(served, inside, "first")
    for _ in range(3):  # Open WebUI writes a thumb again when it has found tags for the chat
        inside.rate("first", 1)
    inside.happens("feedback.created", "of another")
    rater = served.identity.person(served.identity.key(inside.function.valves.key), ANN)
    assert len(served.service.receipts(rater)) == 1


def test_a_thumb_on_another_models_reply_is_left_alone(served: Running, inside: Inside) -> None:
    (first,) = chatted(served, inside, "first")
    inside.rate("third", 1)
    inside.rate("first", 1)
    assert [thumb[0] for thumb in thumbs(served, inside)] == [first]


def test_a_thumb_waits_while_the_service_is_away(served: Running, inside: Inside) -> None:
    (first,) = chatted(served, inside, "first")
    valves = inside.function.valves
    inside.function.valves = valves.model_copy(update={"url": "http://127.0.0.1:9/v1"})
    inside.rate("first", 1)
    inside.function.valves = valves.model_copy(update={"key": "fc-" + "x" * 43})
    inside.happens("feedback.created", "of another")
    inside.function.valves = valves
    assert thumbs(served, inside) == []
    inside.happens("system.startup.completed")
    assert [thumb[0] for thumb in thumbs(served, inside)] == [first]


def test_events_of_other_things_send_nothing(served: Running, inside: Inside) -> None:
    chatted(served, inside, "first")
    inside.function.valves = inside.function.valves.model_copy(update={"url": "not an address"})
    inside.happens("chat.created")
