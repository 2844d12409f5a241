"""Screening over HTTP and by the command: a test, a role, and whose votes count."""

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from chat_app.commands.main import app
from chat_app.errors import InvalidRequestError, RefusedError
from tests.chat_app.serving import running

QUESTIONS = 20


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    """Twenty questions whose answers the team knows."""
    lines = [
        {"prompt": f"question {n}", "better": f"right {n}", "worse": f"wrong {n}"}
        for n in range(QUESTIONS)
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def answer(client: httpx.Client, right: int) -> dict:
    """Take the whole test, with so many answers as the team's; returns what the API says then."""
    for number in range(QUESTIONS):
        asked = client.get("/v1/comparisons/next").json()["comparison"]
        wanted = "right" if number < right else "wrong"
        label = next(r["label"] for r in asked["replies"] if r["content"].startswith(wanted))
        body = {"candidates_id": asked["candidates_id"], "choice": label}
        client.post("/v1/choices", json=body | {"idempotency_key": f"t{number}"}).raise_for_status()
    return dict(client.get("/v1/comparisons/next").json())


def call(data: Path, *given: str) -> Result:
    return CliRunner().invoke(app, [*given, "--data", str(data)])


@pytest.mark.slow
def test_a_candidate_takes_the_test_by_the_api_and_then_may_label(
    tiny_model: Path, tmp_path: Path, test_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with running(data, tiny_model, screening={"items": test_file, "required": True}) as served:
        with served.client("lena") as lena, served.client("max") as max_:
            told = answer(lena, right=18)
            assert told["comparison"] is None
            assert told["screening"]["right"] == 18 and told["screening"]["passed"] is True
            assert answer(max_, right=9)["screening"]["passed"] is False
        found = json.loads(call(data, "raters", "screen", str(test_file), "--json").stdout)
    passed = {one["passed"]: one["rater_id"] for one in found}
    assert "passed" in call(data, "raters", "list").stdout
    monkeypatch.setenv("FEEDBACK_CHAT_SCREENING__ITEMS", str(test_file))
    for more in ([], ["--passed", passed[False]]):
        refused = call(data, "keys", "make", "max", "--role", "labeler", *more)
        assert isinstance(refused.exception, RefusedError)
    made = call(data, "keys", "make", "lena", "--role", "labeler", "--passed", passed[True])
    assert made.exit_code == 0


def test_a_test_that_guessing_passes_is_refused(tmp_path: Path, test_file: Path) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text("\n".join(test_file.read_text().splitlines()[:4]))
    refused = call(tmp_path, "raters", "screen", str(short))
    assert isinstance(refused.exception, InvalidRequestError)
    assert "has 4 questions, and by guessing 31% would pass" in str(refused.exception)
