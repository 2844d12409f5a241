"""Keys, roles, users of a proxy and persons behind a gateway: who comes in, and as whom."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from feedback_store.store import FeedbackStore
from tests.chat_app.serving import Running, publish_copy, running, serving, until

TOKEN = "the-operators-token"
PROXY = {"X-Forwarded-For": "203.0.113.9"}  # what a proxy on this machine would add
PAGE = {"accept": "text/html"}
NO_KEY = f"fc-{'x' * 43}"
ROWS = re.findall(
    r"^\| (GET|POST|DELETE) (\S+) \| ((?:\S+ \| ){4}\S+) \|$",
    (Path(__file__).parents[2] / "docs" / "security.md")
    .read_text()
    .partition("On another host")[2],
    re.MULTILINE,
)
SAID = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def keys(data: Path, *words: str) -> str:
    """The output of the real command."""
    command = [sys.executable, "-m", "chat_app", "keys", *words, "--data", str(data)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class Beyond:
    """The command on all addresses, in a process of its own."""

    url: str
    data: Path

    def client(self, token: str | None = None, **headers: str) -> httpx.Client:
        """A client that follows no redirect."""
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)

    def status(self, token: str | None, method: str, path: str) -> int:
        """The status of one request."""
        with self.client(token) as client:
            body = {"json": SAID} if path.endswith("completions") else {}
            return client.request(method, path, **body).status_code


def acts(data: Path, *wanted: str) -> list[tuple[str, str]]:
    """Who did what, by the audit log."""
    with FeedbackStore(data / "feedback.db") as store, store._file.read() as db:
        found = db.execute("SELECT action, detail ->> 'by' FROM audit ORDER BY id").fetchall()
    return [(act, by) for act, by in found if act in wanted]


@contextmanager
def beyond(folder: Path, model: Path, **variables: str) -> Iterator[Beyond]:
    """A service that other machines can reach."""
    options = ("--model", str(model), "--quantization", "none", "--host", "0.0.0.0")
    variables = {"operator_token": TOKEN, **variables}
    with serving(folder / "data", *options, log=folder / "log", **variables) as (_, url):
        yield Beyond(url, folder / "data")
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Beyond]:
    proxies = json.dumps(["127.0.0.2"])
    folder = tmp_path_factory.mktemp("beyond")
    with beyond(folder, tiny_model, proxies=proxies, user_header="X-Forwarded-User") as found:
        yield found


@pytest.fixture(scope="module")
def of_role(service: Beyond) -> dict[str, str]:
    """A key of each role, made by the command while the service runs."""
    return {
        role: keys(service.data, "make", f"a-{role}", "--role", role)
        for role in ("visitor", "labeler", "operator")
    }


def test_a_key_is_made_used_listed_and_revoked_while_the_service_runs(service: Beyond) -> None:
    text = keys(service.data, "make", "ann")
    assert service.status(text, "POST", "/v1/chat/completions") == 200
    [listed] = [k for k in json.loads(keys(service.data, "list", "--json")) if k["name"] == "ann"]
    assert listed["used_on"] is not None and text not in json.dumps(listed)
    assert "ann" in keys(service.data, "list") and text not in keys(service.data, "list")
    kept = [file.read_bytes() for file in service.data.rglob("*") if file.is_file()]
    assert kept and not [content for content in kept if text.encode() in content]
    keys(service.data, "revoke", "ann")
    with service.client(text) as client:
        answer = client.post("/v1/chat/completions", json=SAID)
        assert client.get("/v1/operate/status").status_code == 401
    assert answer.status_code == 401 and "was revoked" in answer.json()["error"]["message"]
    again = keys(service.data, "make", "ann")
    with service.client(again) as client:
        assert client.get("/v1/feedback/me").json()["rater"].startswith("key-")


def test_the_votes_of_a_key_are_those_of_a_person_who_consented(
    service: Beyond, of_role: dict[str, str]
) -> None:
    with service.client(of_role["labeler"]) as client:
        reply = client.post("/v1/chat/completions", json=SAID).json()["id"]
        vote = {"message_id": reply, "thumb": "up", "idempotency_key": "one"}
        assert client.post("/v1/feedback", json=vote).json()["trains"] is True
        rater_id = client.get("/v1/feedback/me").json()["rater"]
    with FeedbackStore(service.data / "feedback.db") as store:
        rater = store.rater(rater_id)
    assert rater_id.startswith("key-") and (rater.kind, rater.consent) == ("person", "1")


@pytest.mark.parametrize(("method", "path", "answers"), ROWS)
def test_a_role_opens_the_routes_that_the_reviewed_table_says(
    service: Beyond, of_role: dict[str, str], method: str, path: str, answers: str
) -> None:
    nobody, unknown, visitor, key, token = answers.split(" | ")
    callers = [(None, nobody), (NO_KEY, unknown), (TOKEN, token), (of_role["operator"], key)]
    callers += [(of_role[role], visitor) for role in ("visitor", "labeler")]
    for caller, expected in callers:
        with service.client(caller, **PROXY) as client:
            event = {"json": {"data": []}} if method == "POST" else {}
            status = client.request(method, path, **event).status_code
        assert (str(status) if status in (401, 403) else "yes") == expected, caller
    assert status != 404


def test_without_a_key_the_api_says_how_to_get_one(service: Beyond) -> None:
    with service.client() as client:
        answer = client.post("/v1/chat/completions", json=SAID)
    assert answer.status_code == 401
    message = answer.json()["error"]["message"]
    assert "wants a key" in message and "feedback-chat keys make" in message


def test_the_page_tells_an_anonymous_visitor_that_it_is_closed(service: Beyond) -> None:
    with service.client(**PAGE) as client:
        page = client.get("/")
        event = client.post("/gradio_api/run/chat_opened", json={"data": [None, None]})
        stream = client.get("/follow/x")
    assert page.status_code == 401 and "set-cookie" not in page.headers
    assert "not open to anonymous visitors" in page.text and "pages = &quot;anyone" in page.text
    assert event.status_code == stream.status_code == 401


def test_a_wrong_token_that_is_no_key_counts_at_the_operators_door(
    tmp_path: Path, tiny_model: Path
) -> None:
    with running(tmp_path, tiny_model, access="keys", operator_token=TOKEN) as service:
        with service.client("a-guess-of-a-token") as client:
            found = [client.get("/v1/models").status_code for _ in range(6)]
        assert found == [401] * 5 + [429]
        with service.client(TOKEN) as operator:  # the door is closed, and tells nothing
            assert operator.get("/v1/models").status_code == 429
            assert operator.get("/v1/operate/status").status_code == 429
        _, text = service.service.store.make_key("ann", by="operator")
        with service.client(text) as ann:
            assert ann.get("/v1/models").status_code == 200


def test_what_an_operator_does_by_a_key_is_in_the_audit_log_with_its_name(
    tmp_path: Path, tiny_model: Path, tiny_adapters: Path
) -> None:
    with running(tmp_path, tiny_model) as served:
        store = served.service.store
        publish_copy(tiny_adapters / "policy-000001", tmp_path, "policy-000001")
        store.register_adapter("policy-000001", kind="policy", state="published")
        _, text = store.make_key("olga", role="operator", by="operator")
        with served.client(text) as olga:
            body = {"adapter": "policy-000001"}
            assert olga.post("/v1/operate/promote", json=body).status_code == 200
            assert olga.post("/v1/operate/cycle").status_code == 202
        with served.client(served.identity.operator_token) as operator:
            assert operator.post("/v1/operate/rollback").status_code == 200
        until(lambda: served.service.cycles.running() is None)
    assert acts(tmp_path, "serve", "cycle_started") == [
        ("serve", "key olga"),
        ("cycle_started", "key olga"),
        ("serve", "operator"),
    ]


def test_each_login_and_logout_is_in_the_audit_log(service: Beyond) -> None:
    text = keys(service.data, "make", "olga", "--role", "operator")
    with service.client(**PAGE) as browser:
        login = browser.post("/operator/login", data={"token": text})
        assert login.headers["location"] == "/operator/"
        assert browser.get("/operator/").status_code == 200
        browser.post("/operator/logout")
        assert browser.get("/operator/").status_code == 303
        browser.post("/operator/login", data={"token": TOKEN})
    found = acts(service.data, "login", "logout")[-3:]
    assert found == [("login", "key olga"), ("logout", "key olga"), ("login", "operator")]


def test_revoking_a_key_ends_the_sessions_that_began_with_it(service: Beyond) -> None:
    text = keys(service.data, "make", "otto", "--role", "operator")
    with service.client(**PAGE) as browser:
        browser.post("/operator/login", data={"token": text})
        assert browser.get("/operator/").status_code == 200
        keys(service.data, "revoke", "otto")
        assert browser.get("/operator/").status_code == 303


def test_a_visitors_key_does_not_log_in(service: Beyond, of_role: dict[str, str]) -> None:
    with service.client(**PAGE) as browser:
        answer = browser.post("/operator/login", data={"token": of_role["visitor"]})
    assert answer.headers["location"] == "/operator/login?wrong=1"


def rater(client: httpx.Client, **headers: str) -> str:
    """Who the service says is calling."""
    answer = client.get("/v1/feedback/me", headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["rater"])


def test_a_named_proxy_names_the_user_for_the_api_and_the_page(service: Beyond) -> None:
    from_proxy = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=service.url, transport=from_proxy, timeout=20) as proxy:
        ann, bob = {"x-forwarded-user": "ann@example.org"}, {"x-forwarded-user": "bob"}
        assert rater(proxy, **ann) == rater(proxy, **ann) != rater(proxy, **bob)
        assert rater(proxy, **ann).startswith("user-") and "ann" not in rater(proxy, **ann)
        page = proxy.get("/", headers={**PAGE, **ann})
        assert page.status_code == 200 and "set-cookie" not in page.headers
        run = "/gradio_api/run"
        sent = {"data": ["hello", None, None]}
        asked = proxy.post(f"{run}/chat_send", json=sent, headers=ann).json()["data"][0]["ok"]
        hers = {"data": [asked["conversation_id"], None, None]}
        for who, key in ((ann, "ok"), (bob, "problem")):
            told = proxy.post(f"{run}/chat_open", json=hers, headers=who).json()["data"][0]
            assert key in told
            first = proxy.get(f"/follow/{asked['writing']}", headers=who).text.split("\n")[0]
            assert first.startswith(f'data: {{"{key}":'), who
        for nobody in ({}, {"x-forwarded-user": ""}):
            assert proxy.get("/v1/feedback/me", headers=nobody).status_code == 401
            assert proxy.post(f"{run}/chat_send", json=sent, headers=nobody).status_code == 401
            assert proxy.get(f"/follow/{asked['writing']}", headers=nobody).status_code == 401
        twice = [("x-forwarded-user", "ann@example.org"), ("x-forwarded-user", "bob")]
        assert proxy.get("/v1/feedback/me", headers=twice).status_code == 401
        with FeedbackStore(service.data / "feedback.db") as store:
            assert store.rater(rater(proxy, **ann)).consent is None, "a browser has to accept"


def test_nobody_but_a_named_proxy_can_say_who_the_user_is(
    service: Beyond, of_role: dict[str, str]
) -> None:
    said = {"x-forwarded-user": "ann@example.org"}
    with service.client(**said) as client:
        assert client.get("/v1/feedback/me").status_code == 401
        assert client.get("/", headers=PAGE).status_code == 401
    with service.client(of_role["visitor"]) as client:
        assert rater(client, **said) == rater(client) != "ann@example.org"


def test_a_gateways_key_speaks_for_persons_and_another_key_for_itself(service: Beyond) -> None:
    gateway = keys(service.data, "make", "portal", "--gateway")
    plain = keys(service.data, "make", "script")

    def writers(text: str) -> set[str]:
        with service.client(text) as client:
            half = json.dumps({**SAID, "user": "half \ud800 of a character"})
            head = {"content-type": "application/json"}
            strange = client.post("/v1/chat/completions", content=half, headers=head)
            assert strange.status_code == 200
            for person in ("ann", "bob"):
                answer = client.post("/v1/chat/completions", json={**SAID, "user": person})
                reply = answer.json()["id"]
                vote = {"message_id": reply, "thumb": "up", "idempotency_key": person}
                named = {"x-feedback-chat-user": person}
                assert client.post("/v1/feedback", json=vote, headers=named).status_code == 200
            found = {rater(client, **{"x-feedback-chat-user": name}) for name in ("ann", "bob")}
            return found | {rater(client)}

    assert len(writers(gateway)) == 3, "two persons, and the gateway itself"
    assert len(writers(plain)) == 1


def test_persons_behind_two_gateways_are_not_the_same(tmp_path: Path, tiny_model: Path) -> None:
    with running(tmp_path, tiny_model) as service:
        store = service.service.store
        texts = [store.make_key(name, gateway=True, by="operator")[1] for name in ("one", "two")]
        raters = set()
        for text in texts:
            with service.client(text) as client:
                raters.add(rater(client, **{"x-feedback-chat-user": "ann"}))
    assert len(raters) == 2


def test_the_api_opens_to_any_token_if_the_operator_says_so(
    tmp_path: Path, tiny_model: Path
) -> None:
    with beyond(tmp_path, tiny_model, access="open", pages="anyone") as service:
        assert service.status("anybody", "POST", "/v1/chat/completions") == 200
        assert service.status(None, "POST", "/v1/chat/completions") == 401
        assert service.status(NO_KEY, "GET", "/v1/feedback/me") == 401, "no key"
        with service.client(**PAGE) as browser:
            page = browser.get("/", follow_redirects=True)
            assert page.status_code == 200 and "kept no cookie" not in page.text


def test_a_service_of_this_machine_is_open_unless_it_wants_keys(
    tmp_path: Path, tiny_model: Path
) -> None:
    def status(service: Running, token: str | None) -> int:
        with service.client(token) as client:
            return client.post("/v1/chat/completions", json=SAID).status_code

    with running(tmp_path / "open", tiny_model) as service:
        assert (status(service, "anybody"), status(service, None)) == (200, 200)
    with running(tmp_path / "keys", tiny_model, access="keys") as service:
        assert (status(service, "anybody"), status(service, None)) == (401, 401)


def test_the_server_says_at_its_start_whom_it_lets_in(tmp_path: Path, tiny_model: Path) -> None:
    options = ("--model", str(tiny_model), "--quantization", "none")
    given = {"proxies": "127.0.0.1", "pages": "known"}
    with serving(tmp_path / "data", *options, log=tmp_path / "log", **given) as (process, _):
        assert process.stdout is not None
        said = "".join(next(process.stdout) for _ in range(3))
    assert "Page:     only for users whom a proxy names" in said
    assert "API:      open to everybody who reaches it" in said
