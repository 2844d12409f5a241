"""The HTTP API as its clients see it: the real application, a tiny model, a real database."""

import asyncio
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.chat_app.serving import Running, publish_copy, running


def asked(text: str = "hello") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def new_key() -> str:
    return uuid.uuid4().hex


def complete(client: httpx.Client, text: str = "hello", **more: Any) -> dict[str, Any]:
    body = {"messages": asked(text), "max_tokens": 12, **more}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def compare(client: httpx.Client, **more: Any) -> dict[str, Any]:
    body = {"messages": asked(), "max_tokens": 12, **more}
    answer = client.post("/v1/candidates", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def post(client: httpx.Client, route: str, **body: Any) -> httpx.Response:
    return client.post(f"/v1/{route}", json=body)


def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.02)


def test_the_openai_client_gets_an_answer_that_names_message_and_adapter(served: Running) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="alice") as client:
        answer = client.chat.completions.create(
            model="policy", messages=[{"role": "user", "content": "hi"}], max_tokens=9, seed=1
        )
        assert "policy" in [model.id for model in client.models.list()]
    message = served.service.store.message(answer.id)
    assert (message.content, message.adapter) == (answer.choices[0].message.content, answer.model)
    assert (answer.model, answer.choices[0].finish_reason) == ("policy-000000", "length")
    assert message.seed == 1 and message.sampling is not None
    assert answer.usage is not None and answer.usage.completion_tokens == 9


def test_the_openai_client_streams_the_same_text_with_usage(served: Running) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="alice") as client:
        chunks = list(
            client.chat.completions.create(
                model="policy",
                messages=[{"role": "user", "content": "hi"}],
                max_tokens=60,
                seed=4,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == served.service.store.message(chunks[0].id).content
    assert {chunk.model for chunk in chunks} == {"policy-000000"}
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 60
    with served.client() as plain:
        again = complete(plain, "hi", max_tokens=60, seed=4)
    assert again["choices"][0]["message"]["content"] == text


def test_the_openai_client_understands_our_errors(served: Running) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="a", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="no model 'gpt-4' is served"):
            client.chat.completions.create(model="gpt-4", messages=[])
        with pytest.raises(openai.BadRequestError, match="max_tokens is 0") as refused:
            client.chat.completions.create(
                model="policy", messages=[{"role": "user", "content": "x"}], max_tokens=0
            )
        assert (refused.value.param, refused.value.code) == ("max_tokens", "invalid_value")


def test_a_conversation_is_stored_message_by_message(served: Running) -> None:
    turns = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "one"}]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    with served.client() as client:
        body = {"messages": turns, "max_tokens": 5}
        answer = client.post("/v1/chat/completions", json=body).json()
    path = served.service.store.path(answer["id"])
    assert [m.content for m in path[:-1]] == ["be kind", "one", "two", "three"]
    assert [m.role for m in path][-1] == "assistant"


def test_candidates_are_blind_until_the_choice_is_stored(served: Running) -> None:
    with served.client() as client:
        shown = compare(client)
        assert [reply["label"] for reply in shown["replies"]] == ["a", "b"]
        assert set(shown["replies"][0]) == {"label", "content"}
        stored = post(
            client,
            "choices",
            candidates_id=shown["candidates_id"],
            choice="b",
            seconds=2.5,
            idempotency_key=new_key(),
        )
    assert stored.json()["adapters"] == {"a": "policy-000000", "b": "policy-000000"}
    replies = served.service.store.candidates(shown["candidates_id"])
    assert [r.content for r in replies] == [r["content"] for r in shown["replies"]]
    assert replies[0].seed != replies[1].seed


def test_a_choice_is_sent_again_with_its_key_to_say_why(served: Running) -> None:
    store = served.service.store
    with served.client() as client:
        shown, key = compare(client)["candidates_id"], new_key()
        body = {"candidates_id": shown, "choice": "b", "strength": 2.0, "idempotency_key": key}
        first = post(client, "choices", **body)
        why = {"tags": ["clearer", "safer"], "comment": "it is"}
        assert post(client, "choices", **body, **why).json() == first.json()
        wrong = post(client, "choices", **body, tags=["rude"])
        [mine] = [
            one
            for one in client.get("/v1/feedback/me").json()["events"]
            if one.get("candidates_id") == shown
        ]
        everything = client.get("/v1/me").json()["votes"]
    assert mine in everything
    assert wrong.status_code == 400 and "closer to what I asked" in wrong.text
    assert (mine["id"], mine["tags"], mine["comment"]) == (
        first.json()["id"],
        [*why["tags"]],
        "it is",
    )
    assert mine["strength"] == 2.0
    assert store.choice_of(shown, mine["rater_id"]).tags == ("clearer", "safer")


def test_replies_that_all_say_the_same_leave_nothing_to_choose(served: Running) -> None:
    with served.client() as client:
        shown = compare(client, temperature=0)
    assert shown["candidates_id"] is None
    assert len(shown["replies"]) == 1


def test_three_candidates_can_be_ranked_and_not_chosen_between(served: Running) -> None:
    with served.client() as client:
        shown = compare(client, n=3)["candidates_id"]
        ranked = post(
            client,
            "rankings",
            candidates_id=shown,
            order=[["c"], ["a", "b"]],
            idempotency_key=new_key(),
        )
        assert ranked.status_code == 200
        chosen = post(client, "choices", candidates_id=shown, choice="a", idempotency_key=new_key())
    assert chosen.status_code == 400 and "ranking" in chosen.json()["error"]["message"]


def test_nine_candidates_are_ranked_through_the_api_alone_as_one_opinion(served: Running) -> None:
    store = served.service.store
    with served.client("ranker") as client:
        shown = compare(client, messages=asked("tell me a story of nine friends"), n=9)
        labels = [reply["label"] for reply in shown["replies"]]
        assert labels == list("abcdefghi")
        order = [["i"], ["a", "b"], *([label] for label in "cdefgh")]
        body = {"candidates_id": shown["candidates_id"], "order": order}
        key = new_key()
        told = [post(client, "rankings", **body, idempotency_key=key).json() for _ in range(2)]
        assert told[0] == told[1] and told[0]["order"] == order
        [event] = client.get("/v1/feedback/me").json()["events"]
    assert (event["event"], event["order"]) == ("ranking", order)
    store.refresh_comparisons()
    pairs = [c for c in store.comparisons() if told[0]["id"] in c.event_ids]
    assert len(pairs) == 36 and sum(c.label == "tie" for c in pairs) == 1
    assert sum(c.weight for c in pairs) == pytest.approx(1)
    assert len({c.split for c in pairs}) == 1
    [line] = [line for line in store.said() if told[0]["id"] in line.event_ids]
    assert (line.kind, round(line.weight, 6)) == ("ranking", 1)


@pytest.mark.parametrize(
    "order",
    [[["a"], ["b"]], [["a", "a"], ["b"], ["c"]], [["a"], ["b"], ["z"]], [[], ["a", "b", "c"]]],
)
def test_an_order_without_each_reply_once_is_refused(served: Running, order: list[Any]) -> None:
    with served.client() as client:
        shown = compare(client, n=3)["candidates_id"]
        body = {"candidates_id": shown, "order": order, "idempotency_key": new_key()}
        refused = post(client, "rankings", **body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == "order"


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 0), ("n", 1), ("n", 10), ("temperature", 3), ("top_p", 0), ("max_tokens", 0)],
)
def test_candidates_that_are_refused_leave_nothing_in_the_store(
    served: Running, field: str, value: int
) -> None:
    before = served.service.store.counts()["messages"]
    with served.client() as client:
        refused = post(client, "candidates", messages=asked("not kept"), **{field: value})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == field
        assert "not kept" not in client.get("/v1/me").text
    assert served.service.store.counts()["messages"] == before


def test_more_candidates_than_are_allowed_are_refused_with_their_number(served: Running) -> None:
    with served.client() as client:
        refused = post(client, "candidates", messages=asked(), n=10)
    assert "2 to 9" in refused.json()["error"]["message"]


def test_a_thumb_is_stored_once_changed_and_withdrawn(served: Running) -> None:
    store = served.service.store
    with served.client() as client:
        message = complete(client)["id"]
        rater, key = store.owner_of(message), new_key()
        body = {"message_id": message, "thumb": "up", "tags": ["friendly"], "idempotency_key": key}
        first, again = (post(client, "feedback", **body) for _ in range(2))
        assert first.json() == again.json()
        assert post(client, "feedback", **{**body, "thumb": "down", "tags": []}).status_code == 409
        down = {"message_id": message, "thumb": "down", "idempotency_key": new_key()}
        assert post(client, "feedback", **down).status_code == 200
        assert store.conversation_view(rater, message_id=message).thumbs[message].value == -1
        nothing = {"message_id": message, "thumb": None, "idempotency_key": new_key()}
        assert post(client, "feedback", **nothing).status_code == 200
        assert message not in [thumb.message_id for thumb in store.thumbs()]
        assert len(client.get("/v1/feedback/me").json()["events"]) >= 3


@pytest.mark.parametrize("finish_reason", ["cancelled", "error"])
def test_a_reply_that_was_cut_off_is_no_evidence(served: Running, finish_reason: str) -> None:
    store = served.service.store
    with served.client() as client:
        prompt = store.path(complete(client, "long story")["id"])[0]
        part = store.add_message(
            prompt.conversation_id,
            "assistant",
            "Once upon",
            parent_id=prompt.id,
            adapter="policy-000000",
            finish_reason=finish_reason,
        )
        about = {"message_id": part.id, "idempotency_key": new_key()}
        thumb = post(client, "feedback", thumb="down", **about)
        better = post(client, "demonstrations", content="Once upon a time.", **about)
        withdrawn = post(client, "feedback", thumb=None, **about)
    assert [thumb.status_code, better.status_code, withdrawn.status_code] == [409, 409, 200]
    assert "cut off" in thumb.json()["error"]["message"]
    assert part.id not in [thumb.message_id for thumb in store.thumbs()]
    assert part.id not in [written.message_id for written in store.demonstrations()]


@pytest.mark.parametrize(
    ("reasons", "says"),
    [
        ({"tags": ["made up"]}, "unknown reasons ['made up']; choose from ['correct'"),
        ({"tags": ["wrong"]}, "unknown reasons ['wrong']"),
        ({"comment": "x" * 2_001}, "2001 characters"),
    ],
)
def test_unknown_reasons_are_refused(served: Running, reasons: dict[str, Any], says: str) -> None:
    with served.client() as client:
        about = {"message_id": complete(client)["id"], "idempotency_key": new_key()}
        answer = post(client, "feedback", thumb="up", **about, **reasons)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert says in error["message"] and error["param"] == next(iter(reasons))


@pytest.mark.parametrize(
    "wrong", [{"strength": -1}, {"seconds": -0.5}, {"tags": ["made up"]}, {"comment": "x" * 2_001}]
)
def test_a_choice_that_is_refused_names_its_field(served: Running, wrong: dict[str, Any]) -> None:
    with served.client() as client:
        about = {
            "candidates_id": compare(client)["candidates_id"],
            "idempotency_key": new_key(),
        }
        answer = post(client, "choices", choice="a", **about, **wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(wrong)))
        assert post(client, "choices", choice="a", **about).status_code == 200


def test_a_reply_is_tried_again_and_compared_with_the_one_before(served: Running) -> None:
    with served.client("retrier") as client:
        first = complete(client, "once more")
        again = complete(client, "once more", retry_of=first["id"])
        messages = served.service.store.path(again["id"])
        assert messages[:-1] == served.service.store.path(first["id"])[:-1]
        said = {"message_id": again["id"], "than_before": "better", "idempotency_key": new_key()}
        answer = post(client, "retries", **said)
        assert answer.status_code == 200 and answer.json()["than_before"] == "better"
        assert post(client, "retries", **said).json() == answer.json()
        [event] = [
            e for e in client.get("/v1/feedback/me").json()["events"] if e.get("than_before")
        ]
        assert (event["event"], event["retry_of"]) == ("retry", first["id"])
        other = post(client, "retries", **said | {"than_before": "worse"})
        assert other.status_code == 409  # the key is of another answer


@pytest.mark.parametrize(
    ("text", "retry_of", "status", "says"),
    [
        ("another question", "own", 400, "is no reply to these messages"),
        ("mine", "another rater's", 404, "there is no"),
    ],
)
def test_only_a_reply_of_ones_own_to_the_same_messages_is_tried_again(
    served: Running, text: str, retry_of: str, status: int, says: str
) -> None:
    with served.client("one") as one, served.client("other") as other:
        reply = complete(one if retry_of == "own" else other, "mine")
        answer = post(one, "chat/completions", messages=asked(text), retry_of=reply["id"])
        assert answer.status_code == status and says in answer.json()["error"]["message"]
        wrong = {"message_id": reply["id"], "than_before": "better", "idempotency_key": new_key()}
        assert post(one, "retries", **wrong).status_code == 404  # it replaced none


def test_a_demonstration_replaces_a_reply_or_answers_a_prompt(served: Running) -> None:
    with served.client() as client:
        message = complete(client, "What is the capital of Peru?")["id"]
        body = {"content": "Lima.", "idempotency_key": new_key()}
        assert post(client, "demonstrations", message_id=message, **body).status_code == 200
        other = {"content": "Lima!", "idempotency_key": new_key()}
        assert post(client, "demonstrations", messages=asked("Peru?"), **other).status_code == 200
        neither = {"content": "Lima?", "idempotency_key": new_key()}
        assert post(client, "demonstrations", **neither).status_code == 400
    written = {d.content: d for d in served.service.store.demonstrations()}
    assert written["Lima."].prompt[-1]["content"] == "What is the capital of Peru?"
    assert written["Lima!"].message_id is None


def test_a_rater_cannot_reach_records_of_another(served: Running) -> None:
    with served.client("alice") as alice, served.client("mallory") as mallory:
        message, shown = complete(alice)["id"], compare(alice)["candidates_id"]
        rater = alice.get("/v1/feedback/me").json()["rater"]
        key = {"idempotency_key": new_key()}
        answers = [
            post(mallory, "feedback", message_id=message, thumb="up", **key),
            post(mallory, "demonstrations", message_id=message, content="x", **key),
            post(mallory, "choices", candidates_id=shown, choice="a", **key),
            post(mallory, "rankings", candidates_id=shown, order=[["a"], ["b"]], **key),
            mallory.get(f"/v1/feedback/{rater}"),
        ]
    assert [answer.status_code for answer in answers] == [404] * 5
    assert message not in [thumb.message_id for thumb in served.service.store.thumbs()]


def test_a_rater_is_the_token_or_the_cookie_and_never_a_field(served: Running) -> None:
    store = served.service.store
    with served.client("carol") as carol, served.client(None) as nobody:
        one, two = complete(carol)["id"], complete(carol, user="root", rater_id="root")["id"]
        assert store.owner_of(one) == store.owner_of(two) != "root"
        assert store.owner_of(complete(nobody)["id"]) == "anonymous"
        nobody.cookies.set(served.identity.cookie, served.identity.new_cookie())
        browser = store.owner_of(complete(nobody)["id"])
        assert browser.startswith("browser-")
        nobody.cookies.clear()
        nobody.cookies.set(served.identity.cookie, "browser-forged.signature")
        forged = post(nobody, "chat/completions", messages=asked())
        assert forged.status_code == 401 and "names no rater" in forged.json()["error"]["message"]
    assert "carol" not in store.owner_of(one)
    assert store.rater(store.owner_of(one)).consent == "1"
    assert store.rater(browser).consent is None, "a browser's visitor has to accept the notice"


def test_simulated_raters_are_marked_as_such(served: Running) -> None:
    with served.client("robot", **{"X-Feedback-Chat-Simulated": "1"}) as client:
        rater = served.service.store.rater(served.service.store.owner_of(complete(client)["id"]))
    assert (rater.kind, rater.consent) == ("simulated", None)


def test_a_caller_on_another_machine_cannot_be_simulated(served: Running) -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.9", "X-Feedback-Chat-Simulated": "1"}
    with served.client("stranger", **forwarded) as client:
        answer = post(client, "chat/completions", messages=asked())
    assert answer.status_code == 403
    assert "own machine" in answer.json()["error"]["message"]
    with served.client("stranger") as client:
        rater = served.service.store.rater(served.service.store.owner_of(complete(client)["id"]))
    assert (rater.kind, rater.consent) == ("person", "1")


@pytest.mark.parametrize(
    ("route", "body", "says"),
    [
        ("chat/completions", {"messages": []}, "0 messages"),
        ("chat/completions", {"messages": [{"role": "user", "content": " "}]}, "empty"),
        ("chat/completions", {"messages": [{"role": "user", "content": "x" * 8001}]}, "8001"),
        ("chat/completions", {"messages": [{"role": "boss", "content": "x"}]}, '"boss"'),
        ("chat/completions", {"messages": [{"role": "assistant", "content": "x"}]}, "end with"),
        ("chat/completions", {"messages": [{"role": "user", "content": 7}]}, "messages.0"),
        ("chat/completions", {"messages": asked(), "temperature": 3}, "temperature 3"),
        ("chat/completions", {"messages": asked(), "top_p": 0}, "top_p 0"),
        ("chat/completions", {"messages": asked(), "max_tokens": -2}, "max_tokens is -2"),
        ("chat/completions", {"messages": asked(), "n": 10}, "n is 10; ask for 1 to 9"),
        ("chat/completions", {"messages": asked("x" * 600), "max_tokens": 9}, "shorten it"),
        ("candidates", {"messages": asked(), "n": 1}, "n is 1"),
        ("choices", {"candidates_id": "x", "choice": "c", "idempotency_key": "k"}, "choice"),
        ("feedback", {"message_id": "x", "idempotency_key": "k"}, "thumb"),
        ("feedback", {"message_id": "x", "thumb": "up"}, "idempotency_key"),
        ("feedback", {"message_id": "x", "thumb": "up", "rater": "y", "idempotency_key": "k"},
         "rater"),
    ],
)  # fmt: skip
def test_the_answer_to_a_wrong_request_names_the_fault(
    served: Running, route: str, body: dict[str, Any], says: str
) -> None:
    with served.client() as client:
        answer = post(client, route, **body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{bad", "the body is not JSON: Expecting property name enclosed in double quotes at "
         "character 1; send one JSON object"),
        ("", "body: Field required"),
        ("[1]", "the body is not a JSON object, got [1]"),
        ('{"messages": [{"role": "user", "content": "x\\ud800"}]}', "messages.0: the message "
         "has half of a character at position 1; send it whole"),
        ('{"messages": [], "n": "2x"}', "n: Input should be a valid integer, unable to parse "
         'string as an integer, got "2x"'),
        ('{"messages": [], "seed": "x"}', "seed: Input should be a valid integer, unable to parse "
         'string as an integer, got "x"'),
        ('{"messages": "' + "y" * 100 + '"}', 'messages: Input should be a valid list, got "'
         + "y" * 59 + "..."),
        ('{"messages": "\\ud800\u00e9"}', 'messages: Input should be a valid list, got "?\u00e9"'),
        ("{}", "messages: Field required"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_field_and_cut_short(
    served: Running, body: str, says: str
) -> None:
    with served.client() as client:
        headers = {"content-type": "application/json"}
        answer = client.post("/v1/chat/completions", content=body.encode(), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == says


def test_a_body_that_is_not_said_to_be_json_is_shown_as_it_was_sent(served: Running) -> None:
    headers = {"content-type": "text/plain"}
    with served.client() as client:
        answer = client.post("/v1/feedback", content=b"thumb=up", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith('got "thumb=up"')


def test_ids_that_do_not_exist_are_404_and_no_route_is_openai_shaped(served: Running) -> None:
    with served.client() as client:
        key = new_key()
        gone = post(client, "feedback", message_id="none", thumb="up", idempotency_key=key)
        lost = client.get("/v1/nothing/here")
    assert gone.status_code == lost.status_code == 404
    assert "no 'none' among your messages" in gone.json()["error"]["message"]
    assert lost.json()["error"]["type"] == "not_found_error"


def test_a_client_that_goes_away_stops_its_reply(served: Running) -> None:
    body = {"messages": asked("going away"), "max_tokens": 480, "stream": True, "seed": 1}
    with served.client("dave") as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            first = next(line for line in answer.iter_lines() if line)
        message_id = json.loads(first.removeprefix("data: "))["id"]
        store = served.service.store
        rater = client.get("/v1/feedback/me").json()["rater"]
    conversation = store.conversations(rater)[0].id
    until(lambda: len(store.messages(conversation)) == 2)
    reply = store.message(message_id)
    assert reply.finish_reason == "cancelled" and 0 < len(reply.content) < 480
    until(lambda: served.service.engine.health()["rows"] == 0)


def test_many_requests_at_once_get_their_own_answers(served: Running) -> None:
    async def scenario() -> list[str]:
        async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=30) as client:
            jobs = [
                client.post(
                    "/v1/chat/completions",
                    json={"messages": asked(f"q{i}"), "max_tokens": 20, "seed": i % 5},
                    headers={"Authorization": f"Bearer {i}"},
                )
                for i in range(40)
            ]
            return [answer.json()["id"] for answer in await asyncio.gather(*jobs)]

    ids = asyncio.run(scenario())
    assert len(set(ids)) == 40
    assert len({served.service.store.owner_of(one) for one in ids}) == 40


def test_operators_only(served: Running) -> None:
    routes = [("GET", "status"), ("POST", "cycle"), ("POST", "promote"), ("POST", "rollback")]
    for token, tried in (
        (None, routes),
        ("alice", routes[:2]),  # four wrong tokens in all: the fifth would have the door wait
        (served.identity.operator_token[:-1], routes[2:]),
    ):
        with served.client(token) as client:
            answers = [client.request(verb, f"/v1/operate/{route}") for verb, route in tried]
        assert {answer.status_code for answer in answers} == {403}
    assert served.service.cycles.running() is None
    with served.client(served.identity.operator_token) as operator:
        facts = operator.get("/v1/operate/status").json()
        assert operator.post("/v1/operate/rollback").status_code == 409
        bad = operator.post("/v1/operate/promote", json={"adapter": "policy-000099"})
    assert facts["serving"] == "policy-000000" and facts["counts"]["messages"] > 0
    assert bad.status_code == 404 and "policy-000099" in bad.json()["error"]["message"]


def test_a_rejected_adapter_is_promoted_only_by_force(served: Running, tiny_adapters: Path) -> None:
    store, data = served.service.store, served.service.settings.data
    publish_copy(tiny_adapters / "policy-000002", data, "policy-000002")
    cycle = store.start_cycle({}, pid=os.getpid()).id
    store.register_adapter("policy-000002", kind="policy", state="rejected", cycle_id=cycle)
    store.finish_cycle(cycle, state="rejected", reasons=("KL is 40",), adapter="policy-000002")
    with served.client(served.identity.operator_token) as operator:
        refused = operator.post("/v1/operate/promote", json={"adapter": "policy-000002"})
        assert refused.status_code == 409
        assert f"rejected by cycle {cycle}: KL is 40" in refused.json()["error"]["message"]
        body = {"adapter": "policy-000002", "force": True}
        assert operator.post("/v1/operate/promote", json=body).json() == {
            "serving": "policy-000002",
            "previous": "policy-000000",
        }
        back = operator.post("/v1/operate/rollback").json()
    assert back == {"serving": "policy-000000", "previous": "policy-000002", "skipped": {}}


def test_damaged_adapters_are_a_conflict_and_a_rollback_says_which_it_skipped(
    tiny_model: Path, tiny_adapters: Path, tmp_path: Path
) -> None:
    one, two, three = (f"policy-{number:06d}" for number in (1, 2, 3))
    with running(tmp_path, tiny_model) as service:
        for name in (one, two, three):
            publish_copy(tiny_adapters / one, tmp_path, name)
            service.service.store.register_adapter(name, kind="policy", state="published")
        (tmp_path / "adapters" / three / "notes.json").write_text("{}")
        with service.client(service.identity.operator_token) as operator:
            for name in (one, two):
                answer = operator.post("/v1/operate/promote", json={"adapter": name})
                assert answer.status_code == 200
            refused = operator.post("/v1/operate/promote", json={"adapter": three})
            error = refused.json()["error"]
            assert (refused.status_code, error["type"]) == (409, "conflict_error")
            assert "not listed ['notes.json']" in error["message"]
            facts = operator.get("/v1/operate/status").json()
            assert (facts["serving"], facts["previous"]) == (two, one)
            (tmp_path / "adapters" / one / "notes.json").write_text("{}")
            back = operator.post("/v1/operate/rollback").json()
    assert (back["serving"], back["previous"]) == ("policy-000000", two)
    assert list(back["skipped"]) == [one] and "notes.json" in back["skipped"][one]


def test_health_routes_and_metrics_tell_the_state(served: Running) -> None:
    with served.client(None) as client:
        complete(client)
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json()["serving"] == "policy-000000"
        text = client.get("/metrics").text
    with served.client(served.identity.operator_token) as operator:
        waits = operator.get("/v1/operate/status").json()["next_cycle"]
    assert waits["waits_for"].startswith("votes worth ")
    assert f"feedback_chat_next_cycle_needed {float(waits['needed'])}" in text
    assert 'feedback_chat_serving{adapter="policy-000000"} 1.0' in text
    route = 'route="/v1/chat/completions",status="200"'
    assert f"feedback_chat_requests_total{{{route}}}" in text


def test_an_operators_route_with_another_method_names_the_right_one(served: Running) -> None:
    with served.client(served.identity.operator_token) as client:
        answer = client.get("/v1/operate/promote")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert "use POST" in answer.json()["error"]["message"]
