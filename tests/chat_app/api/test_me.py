"""My data: as one document, and erased for good, by cookie and by token, of nobody else."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from chat_app.identity import Access, Identity
from chat_app.server import create_app
from chat_app.service import erasure
from chat_app.service.chat import ChatService
from chat_app.service.my_data import CONFIRM, MyData
from chat_app.service.upkeep import Upkeep
from feedback_store.records import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

ANN, BOB = "browser-ann", "browser-bob"
SITE = "http://127.0.0.1"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "data" / "feedback.db") as store:
        yield fake_service(store, FakeEngine(), tmp_path / "data")


def application(service: ChatService, access: Access | None = None) -> tuple[FastAPI, Identity]:
    identity = Identity(service.settings.secrets, access=access)
    return create_app(service, identity, pages=False), identity


def client_of(app: FastAPI, identity: Identity, rater: str) -> TestClient:
    cookies = {identity.cookie: identity.new_cookie(rater)}
    return TestClient(app, base_url=SITE, cookies=cookies)


def say_something(store: FeedbackStore, rater: str) -> str:
    """A conversation with a vote, and a deleted one; returns the id of the first."""
    store.add_rater(rater, consent="1")
    for title in ("kept", "deleted"):
        conversation = store.add_conversation(rater, title=title).id
        asked = store.add_message(conversation, "user", f"{title} by {rater}")
        reply = store.add_message(conversation, "assistant", "hi", parent_id=asked.id)
        store.add_thumb(reply.id, rater, 1)
        if title == "kept":
            kept = conversation
    store.delete_conversation(rater, conversation)
    return kept


def test_the_document_has_all_of_ones_own_and_nothing_of_others(service: ChatService) -> None:
    kept = say_something(service.store, ANN)
    say_something(service.store, BOB)
    app, identity = application(service)
    answer = client_of(app, identity, ANN).get("/v1/me")
    assert answer.headers["content-disposition"] == 'attachment; filename="my-data.json"'
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert document["rater"]["id"] == ANN and document["rater"]["consent"] == "1"
    first, second = document["conversations"]
    assert (first["id"], first["deleted_at"]) == (kept, None) and second["deleted_at"]
    assert [one["content"] for one in first["messages"]] == [f"kept by {ANN}", "hi"]
    assert [vote["event"] for vote in document["votes"]] == ["thumb", "thumb"]
    assert BOB not in answer.text


def test_the_document_does_not_tell_who_wrote_a_reply_that_is_not_judged(
    service: ChatService,
) -> None:
    store = service.store
    store.add_rater(ANN, consent="1")
    asked = store.add_message(store.add_conversation(ANN).id, "user", "hello")
    drafts = [CandidateReply(text, adapter="base") for text in ("x", "y")]
    shown, _ = store.add_candidates(asked.id, drafts, rater_id=ANN)
    app, identity = application(service)
    client = client_of(app, identity, ANN)

    def authors() -> list[str | None]:
        [conversation] = client.get("/v1/me").json()["conversations"]
        return [message["adapter"] for message in conversation["messages"][1:]]

    assert authors() == [None, None]
    store.add_choice(shown, ANN, "a")
    assert authors() == ["base", "base"]


def test_a_document_of_nobody_is_empty_and_stores_nobody(service: ChatService) -> None:
    app, identity = application(service)
    document = client_of(app, identity, "browser-new").get("/v1/me").json()
    assert document["conversations"] == document["votes"] == []
    assert service.store.counts()["raters"] == 0


@pytest.mark.parametrize("confirm", ["", "yes", "ERASE", "erase "])
def test_nothing_is_erased_without_the_word(service: ChatService, confirm: str) -> None:
    say_something(service.store, ANN)
    app, identity = application(service)
    client = client_of(app, identity, ANN)
    answer = client.request("DELETE", "/v1/me", json={"confirm": confirm})
    assert answer.status_code == 400 and CONFIRM in answer.json()["error"]["message"]
    assert client.request("DELETE", "/v1/me").status_code == 400
    assert len(service.conversations(ANN)) == 1


def test_who_erases_everything_begins_anew_and_others_keep_theirs(service: ChatService) -> None:
    say_something(service.store, ANN)
    say_something(service.store, BOB)
    app, identity = application(service)
    client = client_of(app, identity, ANN)
    erased = client.request("DELETE", "/v1/me", json={"confirm": CONFIRM}).json()
    assert (erased["counts"]["conversations"], erased["counts"]["thumbs"]) == (2, 2)
    assert (erased["versions"], erased["copies"]) == ([], 0)
    assert service.store.was_forgotten(ANN) and not service.knows(ANN)
    assert len(service.conversations(BOB)) == 1
    anew = client.get("/v1/me").json()
    assert anew["rater"]["id"] == identity.successor(ANN) and anew["conversations"] == []
    again = client.request("DELETE", "/v1/me", json={"confirm": CONFIRM})
    assert again.status_code == 404


def test_a_token_names_whose_data_it_is(service: ChatService) -> None:
    app, _ = application(service)
    client = TestClient(app, base_url=SITE, headers={"Authorization": "Bearer alice"})
    rater = client.get("/v1/feedback/me").json()["rater"]
    assert client.get("/v1/me").json()["rater"]["id"] == rater
    assert client.request("DELETE", "/v1/me", json={"confirm": CONFIRM}).status_code == 200
    assert not service.knows(rater)


def test_a_visitor_of_the_pages_needs_no_key_for_their_own_data(service: ChatService) -> None:
    say_something(service.store, ANN)
    app, identity = application(service, Access(tokens=False, anonymous=False))
    client = client_of(app, identity, ANN)
    assert client.get("/v1/feedback/me").status_code == 401
    assert client.get("/v1/me").json()["rater"]["id"] == ANN
    closed, identity = application(service, Access(tokens=False, visitors=False, anonymous=False))
    assert client_of(closed, identity, ANN).get("/v1/me").status_code == 401
    assert TestClient(app, base_url=SITE).get("/v1/me").status_code == 401


def test_a_page_of_another_site_erases_nothing(service: ChatService) -> None:
    say_something(service.store, ANN)
    app, identity = application(service)
    client = client_of(app, identity, ANN)
    headers = {"origin": "http://elsewhere.example"}
    answer = client.request("DELETE", "/v1/me", json={"confirm": CONFIRM}, headers=headers)
    assert answer.status_code == 403 and service.knows(ANN)


def test_who_erases_everything_while_a_round_runs_is_erased_after_it_and_begins_anew_at_once(
    service: ChatService,
) -> None:
    say_something(service.store, ANN)
    cycle = service.store.start_cycle({}, pid=os.getpid())
    app, identity = application(service)
    client = client_of(app, identity, ANN)
    answer = client.request("DELETE", "/v1/me", json={"confirm": CONFIRM})
    assert (answer.status_code, answer.json()["after"]) == (202, cycle.id)
    about = MyData(service).about(ANN)
    assert about.running == cycle.id and about.erasing and not about.consented
    assert client.get("/v1/me").json()["rater"]["id"] == identity.successor(ANN)
    service.store.finish_cycle(cycle.id, state="rejected")
    Upkeep(service.store, service.settings).check()
    assert not service.knows(ANN) and not MyData(service).about(ANN).erasing


def test_what_only_the_operator_can_mend_is_in_the_log_and_the_person_need_not_try_again(
    service: ChatService, caplog: pytest.LogCaptureFixture
) -> None:
    say_something(service.store, ANN)
    report = service.settings.data / "cycles" / "000009" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text("no JSON")
    app, identity = application(service)
    client = client_of(app, identity, ANN)
    answer = client.request("DELETE", "/v1/me", json={"confirm": CONFIRM})
    assert (answer.status_code, answer.json()["after"]) == (202, 0)
    assert "report.json" not in answer.text and "report.json" in caplog.text
    about = MyData(service).about(ANN)
    assert about.erasing and not about.consented
    report.unlink()
    Upkeep(service.store, service.settings).check()
    assert not service.knows(ANN)


def test_nobody_waits_long_for_the_erasure_of_another(
    service: ChatService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "PATIENCE_S", 0.05)
    say_something(service.store, ANN)
    app, identity = application(service)
    client = client_of(app, identity, ANN)
    with erasure._erasing:
        answer = client.request("DELETE", "/v1/me", json={"confirm": CONFIRM})
    assert (answer.status_code, answer.json()["after"]) == (202, 0)
    assert MyData(service).about(ANN).erasing
    Upkeep(service.store, service.settings).check()
    assert not service.knows(ANN)


def test_a_known_person_who_waits_for_erasure_is_asked_to_come_back_later(
    service: ChatService,
) -> None:
    app, _ = application(service)
    client = TestClient(app, base_url=SITE, headers={"Authorization": "Bearer alice"})
    assert client.post("/v1/consent", json={"given": True}).status_code == 200
    cycle = service.store.start_cycle({}, pid=os.getpid())
    assert client.request("DELETE", "/v1/me", json={"confirm": CONFIRM}).status_code == 202
    answer = client.post("/v1/consent", json={"given": True})
    assert answer.status_code == 409 and "is being erased" in answer.json()["error"]["message"]
    service.store.finish_cycle(cycle.id, state="rejected")
    Upkeep(service.store, service.settings).check()
    assert client.post("/v1/consent", json={"given": True}).status_code == 200


def test_the_page_says_what_is_stored(service: ChatService) -> None:
    mine = MyData(service)
    nobody = mine.about("browser-new")
    assert (nobody.stored, nobody.since, nobody.conversations) == (False, None, 0)
    say_something(service.store, ANN)
    about = mine.about(ANN)
    assert (about.stored, about.conversations, about.running) == (True, 1, None)
    assert mine.consent(ANN, given=True).consented
    assert not mine.consent(ANN, given=False).consented


def test_the_document_is_whole_json_however_odd_the_words_are(service: ChatService) -> None:
    odd = 'a "quoted" \\ line\n</script>\u2028 عربي 😀'
    service.store.add_rater(ANN)
    conversation = service.store.add_conversation(ANN, title=odd).id
    service.store.add_message(conversation, "user", odd)
    document = json.loads("".join(MyData(service).everything(ANN)))
    [one] = document["conversations"]
    assert one["title"] == one["messages"][0]["content"] == odd
