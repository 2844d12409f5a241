"""Two adapters compared by the exact judge of a world, through the command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chat_app.commands.main import app
from chat_app.errors import InvalidRequestError
from feedback_store.errors import UnknownRecordError
from feedback_store.store import FeedbackStore


@pytest.fixture
def data(tmp_path: Path) -> Path:
    FeedbackStore(tmp_path / "data" / "feedback.db").close()
    return tmp_path / "data"


def test_the_checkable_world_measures_satisfaction_on_kept_prompts(data: Path) -> None:
    words = ["evaluate", "--world", "checkable", "--taste", "at-most-words:5", "--taste", "json"]
    words += ["--requests", "20", "--data", str(data)]
    short = {"FEEDBACK_CHAT_REPLY__TOKENS": "16"}
    done = CliRunner().invoke(app, [*words, "--json"], env=short)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["adapter"] == found["against"] == "policy-000000"
    assert found["world"]["tastes"] == ["at-most-words:5", "json"]
    new = found["candidate"]
    assert (new["replies"], new["prompts"]) == (20, 20)
    assert new["tastes"].keys() == {"at-most-words:5", "json"}
    assert 0 < new["tastes"]["at-most-words:5"]["value"] < 1 and new["joint"]["value"] == 0
    assert found["gain"].keys() == {"at-most-words:5", "json", "joint"}


def test_an_adapter_draws_with_itself_by_the_starters_judge(data: Path) -> None:
    words = ["evaluate", "--requests", "20", "--data", str(data)]
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["low"] < 0.5 < found["high"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    first, win_rate, *rates = done.stdout.splitlines()
    assert first == "policy-000000 against policy-000000" and "win rate" in win_rate
    assert [line.split()[1] for line in rates] == ["truth", "rude", "ignored", "unfinished", "gold"]


def test_an_adapter_that_there_is_not_is_told_before_anything_is_loaded(data: Path) -> None:
    found = CliRunner().invoke(app, ["evaluate", "--data", str(data), "--adapter", "policy-9"])
    assert isinstance(found.exception, UnknownRecordError)
    assert "no 'policy-9' among the adapters" in str(found.exception)


def test_the_starters_world_judges_the_starter_alone(data: Path) -> None:
    words = ["evaluate", "--data", str(data), "--model", "/models/other"]
    refused = CliRunner().invoke(app, words).exception
    assert isinstance(refused, InvalidRequestError)
    assert "give --world checkable" in str(refused)
