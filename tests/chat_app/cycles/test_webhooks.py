"""A webhook gets what happens in order and at least once, whatever becomes of it meanwhile."""

import base64
import hashlib
import hmac
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chat_app.api.logs import TextLines
from chat_app.cycles.webhooks import Deliveries, Webhook, signature
from chat_app.errors import InvalidRequestError
from chat_app.settings import WebhookSettings, load_settings
from feedback_store.records import Alarm, PromptMessage
from feedback_store.store import FeedbackStore
from tests.chat_app.serving import serving, until

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
SOON = (timedelta(milliseconds=1),)
RUNS = threading.Event()  # never set


@dataclass
class Taker:
    """A receiver that notes whatever comes, and how it answers."""

    port: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200
    hangs_s: float = 0.0

    @property
    def numbers(self) -> list[int]:
        return [json.loads(body)["data"]["number"] for body in self.bodies]


@contextmanager
def taking(taker: Taker) -> Iterator[None]:
    """The receiver lives in the block; afterwards nobody answers at its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taker.bodies.append(body)
            taker.headers.append(dict(self.headers.items()))
            time.sleep(taker.hangs_s)
            self.send_response(taker.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", taker.port), Handler) as server:
        taker.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        opened.add_rater("ann", consent="1")
        opened.add_rater("bob")
        yield opened


def hook(store: FeedbackStore, taker: Taker, **options: Any) -> Webhook:
    given = {"url": f"http://127.0.0.1:{taker.port}/hook", "secret": SECRET, **options}
    webhook = Webhook(store, WebhookSettings.model_validate(given), waits=SOON)
    webhook.deliver(RUNS)  # a new one begins at the end of the feed
    return webhook


def vote(store: FeedbackStore, rater: str = "ann", text: str = "hello") -> None:
    [asked] = store.add_dialogue(rater, [PromptMessage(role="user", content=text)])
    answer = {"parent_id": asked.id, "adapter": "policy-000000"}
    reply = store.add_message(asked.conversation_id, "assistant", f"{text}!", **answer)  # type: ignore[arg-type]
    store.add_thumb(reply.id, rater, 1)


def again(webhook: Webhook) -> None:
    time.sleep(0.02)  # the wait is over
    webhook.deliver(RUNS)


def test_a_vote_is_sent_signed_and_without_its_text(store: FeedbackStore) -> None:
    taker = Taker()
    with taking(taker):
        webhook = hook(store, taker)
        vote(store, text="zanzibar")
        webhook.deliver(RUNS)
    [body], [headers] = taker.bodies, taker.headers
    said = json.loads(body)
    assert (said["type"], said["data"]["said"]) == ("vote.thumb", "up")
    assert b"zanzibar" not in body
    name, moment = headers["webhook-id"], headers["webhook-timestamp"]
    signed = hmac.new(KEY, f"{name}.{moment}.".encode() + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(signed).decode()
    assert abs(int(moment) - time.time()) < 60


def test_the_signature_is_that_of_the_specifications_example() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    name, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    wanted = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(key, name, 1614265330, body) == wanted


def test_text_is_sent_if_the_operator_wants_it(store: FeedbackStore) -> None:
    taker = Taker()
    with taking(taker):
        webhook = hook(store, taker, text=True)
        vote(store, text="zanzibar")
        webhook.deliver(RUNS)
    assert json.loads(taker.bodies[0])["data"]["replies"][0]["content"] == "zanzibar!"


def test_only_what_is_wanted_is_sent_and_alarms_cycles_and_promotions_too(
    store: FeedbackStore,
) -> None:
    taker = Taker()
    with taking(taker):
        webhook = hook(store, taker, kinds=["alarm", "cycle", "served"])
        vote(store)
        store.raise_alarm(Alarm("kl", "large"), key="1")
        store.finish_cycle(store.start_cycle({}, pid=1).id, state="failed", reasons=("zanzibar",))
        store.register_adapter("policy-000001", kind="policy", state="published")
        store.serve("policy-000001", by="test")
        webhook.deliver(RUNS)
    types = [json.loads(body)["type"] for body in taker.bodies]
    assert types == ["alarm.raised", "cycle.ended", "adapter.served"]
    assert b"zanzibar" not in b"".join(taker.bodies), "why it failed may quote people"


def test_one_that_fails_gets_the_same_again_and_then_the_rest_in_order(
    store: FeedbackStore, caplog: pytest.LogCaptureFixture
) -> None:
    taker = Taker()
    with taking(taker):
        webhook = hook(store, taker)
        for _ in range(3):
            vote(store)
        taker.status = 500
        webhook.deliver(RUNS)
        again(webhook)
        taker.status = 204
        again(webhook)
    first, *_ = taker.numbers
    assert taker.numbers == [first, first, first, first + 1, first + 2]
    assert len({headers["webhook-id"] for headers in taker.headers[:3]}) == 1
    assert "answered 500" in caplog.text and "/hook" not in caplog.text


def test_one_that_hangs_dies_and_comes_back_misses_nothing(tmp_path: Path) -> None:
    taker = Taker()
    path = tmp_path / "feedback.db"
    with FeedbackStore(path) as store:
        store.add_rater("ann", consent="1")
        with taking(taker):
            webhook = hook(store, taker, seconds=1)
            vote(store)
            taker.hangs_s = 2.0
            webhook.deliver(RUNS)  # it took the request, and nobody knows
        vote(store)
        again(webhook)  # nobody is there
        position = store.last_happening()
    taker.hangs_s = 0.0
    with FeedbackStore(path) as store, taking(taker):  # the server, too, was started again
        time.sleep(0.02)
        given = {"url": f"http://127.0.0.1:{taker.port}/hook", "secret": SECRET}
        Webhook(store, WebhookSettings.model_validate(given), waits=SOON).deliver(RUNS)
    assert taker.numbers == [position - 1, position - 1, position]


def test_what_was_erased_or_lacks_consent_meanwhile_is_not_sent(store: FeedbackStore) -> None:
    taker = Taker()
    with taking(taker):
        webhook = hook(store, taker)
        taker.status = 500
        vote(store, "ann")
        vote(store, "bob")
        webhook.deliver(RUNS)
        store.forget("ann")
        taker.status, before = 200, len(taker.bodies)
        store.add_rater("eve", consent="1")
        vote(store, "eve")
        again(webhook)
    assert [json.loads(body)["data"]["rater_id"] for body in taker.bodies[before:]] == ["eve"]


def test_two_processes_do_not_send_the_same_at_the_same_time(store: FeedbackStore) -> None:
    taker = Taker(hangs_s=0.3)
    with taking(taker):
        webhook = hook(store, taker)
        vote(store)
        sending = threading.Thread(target=webhook.deliver, args=(RUNS,))
        sending.start()
        until(lambda: taker.bodies)
        webhook.deliver(RUNS)
        sending.join()
    assert len(taker.bodies) == 1


def test_other_kinds_bring_nothing_of_before_even_while_one_is_not_taken(
    store: FeedbackStore,
) -> None:
    taker = Taker()
    with taking(taker):
        webhook = hook(store, taker, kinds=["alarm"])
        vote(store)
        webhook.deliver(RUNS)
        hook(store, taker, kinds=["alarm", "thumb"])
        assert taker.bodies == []
        webhook = hook(store, taker, kinds=["alarm"])
        vote(store)
        store.raise_alarm(Alarm("kl", "large"), key="1")
        taker.status = 500
        webhook.deliver(RUNS)
        taker.status = 200
        vote(store)
        time.sleep(0.02)  # the wait is over
        webhook = hook(store, taker, kinds=["alarm", "thumb"])
        webhook.deliver(RUNS)
    types = [json.loads(body)["type"] for body in taker.bodies]
    assert types == ["alarm.raised", "alarm.raised", "vote.thumb"]


def test_an_address_that_comes_back_gets_what_it_has_missed(store: FeedbackStore) -> None:
    taker = Taker()
    with taking(taker):
        hook(store, taker)
        vote(store)  # while the settings are without it
        hook(store, taker)
    assert len(taker.bodies) == 1


def test_after_a_restore_other_votes_have_other_ids(tmp_path: Path) -> None:
    taker = Taker()
    files = tmp_path / "feedback.db", tmp_path / "restored.db"
    with taking(taker):
        with FeedbackStore(files[0]) as store:
            store.add_rater("ann", consent="1")
            webhook = hook(store, taker)
        shutil.copy(*files)
        for file in files:
            time.sleep(0.01)  # the two votes are not of the same millisecond
            with FeedbackStore(file) as store:
                vote(store)
                webhook = hook(store, taker)
                webhook.deliver(RUNS)
    first, second = taker.numbers
    assert first == second, "the copy uses the number again"
    assert len({headers["webhook-id"] for headers in taker.headers}) == 2


def test_a_fault_that_is_not_ours_is_logged_without_its_message(
    store: FeedbackStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("zanzibar")

    monkeypatch.setattr(store, "take_webhook", broken)
    given = {"url": "http://127.0.0.1:1/hook", "secret": SECRET}
    sending = Deliveries(store, [WebhookSettings.model_validate(given)])
    sending.begin()
    until(lambda: caplog.records)
    sending.end()
    [line] = [TextLines().format(record) for record in caplog.records]
    assert "webhook 1 of the settings cannot be told" in line
    assert "ValueError" in line and "zanzibar" not in line


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            "[[webhooks]]\n{0}\n[[webhooks]]\n{0}",
            "'webhooks' in {file}: two tables have the same url",
        ),
        ("[webhooks]\n{0}", "'webhooks' in {file}: write [[webhooks]], a table for each"),
        ("[[webhooks]]\n{0}\nkind = []", "no option 'webhooks.0.kind' in {file}; did you mean"),
        ("[[webhooks]]\nurll = 's3cret'", "no option 'webhooks.0.urll' in {file}; did you mean"),
        ("[[webhooks]]\nurl = 'http://s3cret'", "'webhooks.0.secret' in {file}: Field required"),
        ("[[webhooks]]\n{0}\nkinds = ['a']", "'webhooks.0.kinds' in {file}: there is no kind 'a'"),
    ],
)
def test_a_wrong_table_is_named_with_its_file_in_one_line(
    tmp_path: Path, tables: str, said: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(tables.format(f'url = "http://127.0.0.1:1/s3cret"\nsecret = "{SECRET}"'))
    with pytest.raises(InvalidRequestError) as refused:
        load_settings(data=tmp_path)
    text = str(refused.value)
    assert said.format(file=file) in text and "\n" not in text and "s3cret" not in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "ftp://secret.example.org"}, "write an address"),
        ({"secret": "secret"}, "24 to 64 bytes"),
        ({"kinds": ["like"]}, "no kind 'like'"),
        ({"kinds": []}, "name some kinds"),
        ({"url": "http://a:99999/"}, "its port must be"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line_without_its_secret(
    tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    given = {"url": "http://127.0.0.1:1/s3cret", "secret": SECRET} | wrong
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    (tmp_path / "config.toml").write_text("\n".join(["[[webhooks]]", *lines]))
    with pytest.raises(InvalidRequestError, match=said) as refused:
        load_settings(data=tmp_path)
    text = str(refused.value)
    assert "\n" not in text and "secret.example" not in text and "s3cret" not in text


@pytest.mark.slow
def test_a_server_sends_votes_as_they_come_and_after_it_was_killed(
    tiny_model: Path, tmp_path: Path
) -> None:
    taker, data = Taker(), tmp_path / "data"
    options = ("--model", str(tiny_model), "--quantization", "none")
    with taking(taker):
        hooks = json.dumps([{"url": f"http://127.0.0.1:{taker.port}/", "secret": SECRET}])
        for known in (0, 1):
            with serving(data, *options, log=tmp_path / "log", webhooks=hooks):
                with FeedbackStore(data / "feedback.db") as store:
                    until(lambda known=known: len(set(taker.numbers)) == known)
                    store.add_rater("ann", consent="1")
                    time.sleep(0 if known else 2)  # the new webhook has begun
                    vote(store)
                until(lambda known=known: len(set(taker.numbers)) == known + 1)
            with FeedbackStore(data / "feedback.db") as store:
                vote(store)  # while no server runs
        with serving(data, *options, log=tmp_path / "log", webhooks=hooks):
            until(lambda: len(set(taker.numbers)) == 4)
    assert list(dict.fromkeys(taker.numbers)) == sorted(set(taker.numbers))
