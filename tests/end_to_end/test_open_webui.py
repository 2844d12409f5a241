"""A real Open WebUI before the service: two people chat and vote in a browser.

``OPEN_WEBUI_COMMAND`` names the program, such as ``/path/to/venv/bin/open-webui`` (version 0.12;
it needs an environment of its own). Its requests are replayed without it in
`tests/chat_app/api/v1/test_open_webui.py`.
"""

import json
import os
import re
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.chat_app.pages.browsing import CHROMIUM, FLAGS
from tests.chat_app.serving import until
from tests.end_to_end.running import command, service

COMMAND = os.environ.get("OPEN_WEBUI_COMMAND", "")
FUNCTION = Path(__file__).parents[2] / "deploy" / "open_webui" / "feedback_chat.py"
HEADERS = {  # as in docs/clients.md
    "X-Feedback-Chat-User": "{{USER_ID}}",
    "X-Feedback-Chat-Message": "{{MESSAGE_ID}}",
    "X-Feedback-Chat-Task": "{{TASK}}",
}
UP, DOWN = 'button[aria-label="Good Response"]', 'button[aria-label="Bad Response"]'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not COMMAND, reason="OPEN_WEBUI_COMMAND does not name an Open WebUI"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
]


@contextmanager
def open_webui(data: Path, url: str, key: str) -> Iterator[httpx.Client]:
    """An Open WebUI that knows one service; a client of it whose owner is its administrator."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "DATA_DIR": str(data),
        "WEBUI_SECRET_KEY": "secret",
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "ANONYMIZED_TELEMETRY": "false",
        "RAG_EMBEDDING_ENGINE": "openai",
        "ENABLE_OLLAMA_API": "False",
        "BYPASS_MODEL_ACCESS_CONTROL": "True",
        "DEFAULT_MODELS": "policy",
        "OPENAI_API_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": key,
        "OPENAI_API_CONFIGS": json.dumps({"0": {"enable": True, "headers": HEADERS}}),
    }
    data.mkdir()
    words = [COMMAND, "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (data / "log").open("w") as log:
        process = subprocess.Popen(words, env=env, cwd=data, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base, timeout=60, trust_env=False) as http:
            until(lambda: process.poll() is None and _is_up(http), seconds=300)
            yield http
    finally:
        process.terminate()
        process.wait(30)


def _is_up(http: httpx.Client) -> bool:
    try:
        return http.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def person(name: str) -> dict[str, str]:
    return {"name": name, "email": f"{name}@example.org", "password": f"password of {name}"}


def prepared(http: httpx.Client, url: str, key: str) -> None:
    """Make two accounts, and install and turn on the function."""
    token = http.post("/api/v1/auths/signup", json=person("ann")).json()["token"]
    http.headers["Authorization"] = f"Bearer {token}"
    http.post("/api/v1/auths/add", json=person("ben") | {"role": "user"}).raise_for_status()
    form = {"id": "feedback_chat", "name": "feedback-chat", "content": FUNCTION.read_text()}
    form |= {"meta": {"description": "", "manifest": {}}}
    made = http.post("/api/v1/functions/create", json=form)
    assert made.json()["type"] == "event", made.text
    valves = {"url": f"{url}/v1", "key": key}
    one = "/api/v1/functions/id/feedback_chat"
    http.post(f"{one}/valves/update", json=valves).raise_for_status()
    http.post(f"{one}/toggle").raise_for_status()


def page_of(browser: Browser, http: httpx.Client, name: str) -> Page:
    """The chat, with somebody signed in."""
    token = http.post("/api/v1/auths/signin", json=person(name)).json()["token"]
    page = browser.new_context().new_page()
    page.set_default_timeout(60_000)
    page.goto(str(http.base_url))
    page.evaluate("token => localStorage.setItem('token', token)", token)
    page.goto(str(http.base_url))
    page.wait_for_selector("#chat-input")
    page.add_locator_handler(
        page.get_by_text("Okay, Let's Go!"), lambda button: button.first.click()
    )
    return page


def ask(page: Page, text: str, *, answers: int) -> None:
    """Ask, and wait until there are so many answers."""
    page.click("#chat-input")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelectorAll('{UP}').length == {answers}")


def thumbs(data: Path) -> dict[str, tuple[str, str, int]]:
    """The thumbs that stand: by the question, whose, which adapter's reply, and the value."""
    sql = """SELECT asked.content, thumbs.rater_id, reply.adapter, value FROM thumbs
        JOIN messages reply ON reply.id = message_id
        JOIN messages asked ON asked.id = reply.parent_id
        WHERE superseded_at IS NULL AND value <> 0"""
    with closing(sqlite3.connect(f"file:{data / 'feedback.db'}?mode=ro", uri=True)) as db:
        return {
            question: (rater, adapter, value) for question, rater, adapter, value in db.execute(sql)
        }


def test_two_people_chat_and_vote_in_open_webui(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with service(data) as url, sync_playwright() as playwright:
        made = command("keys", "make", "webui", "--gateway", "--json", "--data", str(data))
        key = json.loads(made.stdout)["key"]
        with open_webui(tmp_path / "webui", url, key) as http:
            prepared(http, url, key)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            ann, ben = (page_of(browser, http, name) for name in ("ann", "ben"))
            ask(ann, "What is the capital of Peru?", answers=1)
            ask(ann, "What is the capital of Italy?", answers=2)
            ann.locator(UP).last.click()
            ann.locator('button[aria-label="Continue Response"]').last.click()
            ask(ben, "What is 3 plus 4?", answers=1)
            ben.locator(DOWN).last.click()
            until(lambda: len(thumbs(data)) == 2)
            said = thumbs(data)
            ben.locator(UP).last.click()  # a change of mind
            until(lambda: thumbs(data)["What is 3 plus 4?"][2] == 1)
            http.delete("/api/v1/evaluations/feedbacks/all").raise_for_status()
            until(lambda: not thumbs(data))
            browser.close()
        served = httpx.get(f"{url}/metrics", trust_env=False).text
    italy, sum_ = said["What is the capital of Italy?"], said["What is 3 plus 4?"]
    assert (italy[1:], sum_[1:]) == (("policy-000000", 1), ("policy-000000", -1))
    assert italy[0] != sum_[0]
    refused = re.findall(r'requests_total\{route="([^"]+)",status="([45]\d\d)"\}', served)
    assert not refused
    with closing(sqlite3.connect(data / "feedback.db")) as db:
        asked = [text for (text,) in db.execute("SELECT content FROM messages WHERE role = 'user'")]
    assert len(set(asked)) == 3, f"questions, and no chores: {asked}"
