"""The pages in a real browser through a real nginx: at the root, below a path, http and https."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from chat_app.identity import Identity
from tests.chat_app.pages.browsing import CHROMIUM, say
from tests.chat_app.serving import serving

EXAMPLE = Path(__file__).parents[3] / "docs" / "proxies" / "nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
TOKEN = "the-operators-token"
PLACES = [(scheme, path) for scheme in ("http", "https") for path in ("/", "/chat/")]
MAIN = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
{servers}
}}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        NGINX is None, reason="no nginx; install it with apt-get install nginx-light"
    ),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium"),
]


@dataclass
class Proxied:
    """One service, and four addresses of it."""

    service: str
    identity: Identity
    ports: dict[tuple[str, str], int]

    def url(self, scheme: str, path: str) -> str:
        """The address that a browser uses."""
        return f"{scheme}://localhost:{self.ports[scheme, path]}{path}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as port:
        return int(port.getsockname()[1])


def server_block(folder: Path, service: str, scheme: str, path: str, port: int) -> str:
    """The example of the documentation, with the addresses of this test."""
    tls = f" ssl; ssl_certificate {folder}/c.pem; ssl_certificate_key {folder}/k.pem"
    changes = {
        "listen 80": f"listen 127.0.0.1:{port}{tls if scheme == 'https' else ''}",
        "server_name chat.example.org": "server_name localhost",
        "http://127.0.0.1:7860/": f"{service}/",
    }
    if path != "/":
        changes |= {"location / {": f"location {path} {{", 'Prefix "";': "Prefix /chat;"}
    block = EXAMPLE.read_text()
    for old, new in changes.items():
        assert old in block
        block = block.replace(old, new)
    return block


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxied")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-keyout", folder / "k.pem", "-out", folder / "c.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ("--model", str(tiny_model), "--quantization", "none")
    given = {"operator_token": TOKEN, "proxies": json.dumps(["127.0.0.1"])}
    with serving(folder / "data", *options, log=folder / "log", **given) as (_, service):
        ports = {place: free_port() for place in PLACES}
        blocks = [server_block(folder, service, *place, port) for place, port in ports.items()]
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, servers="\n".join(blocks)))
        nginx = subprocess.Popen([str(NGINX), "-c", folder / "nginx.conf", "-p", folder])
        try:
            proxied = Proxied(service, Identity(folder / "data" / "secrets"), ports)
            wait_for(proxied)
            yield proxied
        finally:
            nginx.terminate()
            nginx.wait(timeout=20)


def wait_for(proxied: Proxied) -> None:
    with httpx.Client(verify=False, trust_env=False) as client:
        for _ in range(100):
            try:
                answers = [client.get(f"{proxied.url(*place)}readyz") for place in PLACES]
            except httpx.HTTPError:
                time.sleep(0.1)
                continue
            assert [answer.status_code for answer in answers] == [200] * 4
            return
    raise AssertionError("nginx does not answer")


@pytest.mark.parametrize(("scheme", "path"), PLACES)
def test_a_person_chats_and_an_operator_looks_on_through_nginx(
    proxied: Proxied, browser: Browser, scheme: str, path: str
) -> None:
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(15_000)
    page, url = context.new_page(), proxied.url(scheme, path)
    refused: list[str] = []
    page.on("response", lambda r: refused.append(r.url) if r.status >= 400 else None)
    page.goto(url)
    say(page, "hello through a proxy")
    page.reload()
    expect(page.get_by_role("article", name="You")).to_contain_text("hello through a proxy")
    assert page.url.startswith(f"{url}?c=")
    page.goto(f"{url}operator?token={TOKEN}")
    expect(page.get_by_role("button", name="Run a round")).to_be_visible()
    assert page.url == f"{url}operator/"
    cookies = {cookie["name"]: cookie for cookie in context.cookies()}
    assert {cookie["secure"] for cookie in cookies.values()} == {scheme == "https"}
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("The operator's token")).to_be_visible()
    assert page.url == f"{url}operator/login"
    context.close()
    assert refused == []


@pytest.mark.parametrize(("scheme", "path"), PLACES)
def test_a_stream_is_not_kept_back_by_nginx(proxied: Proxied, scheme: str, path: str) -> None:
    body = {"messages": [{"role": "user", "content": "count"}], "max_tokens": 60, "stream": True}
    sent = {"json": body, "headers": {"authorization": "Bearer ann"}}
    url = f"{proxied.url(scheme, path)}v1/chat/completions"
    with (
        httpx.Client(verify=False, trust_env=False, timeout=30) as client,
        client.stream("POST", url, **sent) as answer,
    ):
        assert answer.status_code == 200
        assert len([part for part in answer.iter_raw() if part]) > 1, "it came in pieces"


@pytest.mark.parametrize(("scheme", "path"), PLACES)
def test_the_reply_on_a_page_is_not_kept_back_by_nginx(
    proxied: Proxied, scheme: str, path: str
) -> None:
    url = proxied.url(scheme, path)
    cookie = f"{proxied.identity.cookie}={proxied.identity.new_cookie()}"
    with httpx.Client(
        base_url=url, headers={"cookie": cookie}, verify=False, trust_env=False, timeout=30
    ) as client:
        sent = {"data": ["count", None, None]}
        asked = client.post("gradio_api/run/chat_send", json=sent).json()["data"][0]["ok"]
        with client.stream("GET", f"follow/{asked['writing']}") as answer:
            assert answer.status_code == 200
            parts = [part for part in answer.iter_raw() if part]
    assert len(parts) > 1, "it came in pieces"
    assert b"".join(parts).endswith(b"event: end\ndata: \n\n")


def test_both_streams_say_that_no_proxy_may_keep_them_back(proxied: Proxied) -> None:
    body = {"messages": [{"role": "user", "content": "count"}], "max_tokens": 5, "stream": True}
    cookie = f"{proxied.identity.cookie}={proxied.identity.new_cookie()}"
    with httpx.Client(
        base_url=proxied.service, headers={"cookie": cookie}, trust_env=False, timeout=30
    ) as client:
        streams = [
            ("POST", "/v1/chat/completions", {"json": body}),
            ("GET", "/follow/unknown", {}),
        ]
        for method, path, sent in streams:
            with client.stream(method, path, **sent) as answer:
                assert answer.headers["x-accel-buffering"] == "no"
                assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/chat/"])
def test_the_cookie_is_for_our_path_alone_and_a_program_may_look(
    proxied: Proxied, path: str
) -> None:
    url = proxied.url("http", path)
    with httpx.Client(trust_env=False, timeout=30) as client:
        program = client.get(url, headers={"accept": "*/*"})
        client.cookies.clear()
        browser = client.get(url, headers={"accept": "text/html"})
        # an uptime check makes no new visitors, of which an address has 30 an hour
        again = [client.head(url, headers={"accept": "*/*"}).status_code for _ in range(40)]
    assert program.status_code == 200 and browser.status_code == 303
    assert set(again) == {200}
    for answer in (program, browser):
        assert f"Path={path.rstrip('/') or '/'};" in answer.headers["set-cookie"]


def test_only_the_address_that_a_named_proxy_tells_is_believed(proxied: Proxied) -> None:
    url = proxied.url("http", "/")
    body = {"messages": [{"role": "user", "content": "hi"}]}
    cookie = f"{proxied.identity.cookie}={proxied.identity.new_cookie()}"
    page = {"accept": "text/html", "cookie": cookie, "x-gradio-server": "http://evil.example"}
    with httpx.Client(trust_env=False, timeout=30) as client:
        # through nginx nobody is anonymous, whatever the caller adds
        for headers in ({}, {"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
            answer = client.post(f"{url}v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 401
        assert client.get(url, headers={**page, "host": "evil.example"}).status_code == 400
        assert "evil.example" not in client.get(url, headers=page).text
