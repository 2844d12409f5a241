"""One rule for all commands: a path that has to be there and is not is wrong usage."""

import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from chat_app.commands.main import app, main
from feedback_store.store import FeedbackStore

# What else a command needs before it looks for its data directory.
WORDS = {
    "adapters add": ["FOLDER"],
    "adapters anchor": ["policy-000001"],
    "adapters canary": ["policy-000001"],
    "adapters promote": ["policy-000001"],
    "adapters sign": ["policy-000001"],
    "backup": ["NEW"],
    "evidence": ["NEW"],
    "export": ["NEW"],
    "fetch": ["smollm2"],
    "forget": ["ann", "--yes"],
    "import": ["FILE"],
    "judge": ["--report"],
    "keys make": ["phone"],
    "keys revoke": ["phone"],
    "leave-out": ["vote", "x", "--reason", "spam"],
    "promote": ["policy-000001"],
    "raters quarantine": ["ann", "--reason", "spam"],
    "raters release": ["ann"],
    "raters screen": ["FILE"],
    "search": ["hello"],
    "sweep": ["--older-than", "30"],
    "tail": ["--no-follow"],
    "take-in": ["vote", "x"],
}
# These make a data directory, need none, say what is missing in it, or read a file first.
WITHOUT_DATA = {
    "serve",
    "demo",
    "restore",
    "doctor",
    "plan",
    "fetch",
    "evaluate",
    "raters screen",
}
READ = {
    "adapters add": ["MISSING", "--data", "DATA"],
    "cycle": ["--evidence", "MISSING", "--out", "NEW"],
    "evaluate": ["--world", "checkable", "--prompts", "MISSING", "--data", "DATA"],
    "import": ["MISSING", "--data", "DATA"],
    "plan": ["--model", "MISSING", "--data", "DATA"],
    "raters screen": ["MISSING", "--data", "DATA"],
    "restore": ["MISSING", "--data", "NEW"],
    "serve": ["--model", "MISSING", "--data", "NEW", "--port", "0"],
    "simulate": ["--world", "checkable", "--prompts", "MISSING"],
    "starter check": ["MISSING"],
}
# They write into a folder that may be there.
WRITE = {
    "fetch": ["smollm2", "--data", "BAD"],
    "reproduce": ["--out", "BAD"],
    "starter build": ["BAD"],
}


def commands(group: Any, before: str = "") -> dict[str, Any]:
    """All commands by their names, those of a group with its name before them."""
    found: dict[str, Any] = {}
    for name, one in group.commands.items():
        found |= commands(one, f"{name} ") if hasattr(one, "commands") else {before + name: one}
    return found


def taking(option: str) -> list[str]:
    """The commands that have an option of this name."""
    every = commands(typer.main.get_command(app))
    return sorted(name for name, one in every.items() if option in [p.name for p in one.params])


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """A store, files that are there, and names where nothing is."""
    (tmp_path / "data").mkdir()
    FeedbackStore(tmp_path / "data" / "feedback.db").close()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    there = {"DATA": "data", "FOLDER": "folder", "FILE": "file"}
    named = there | {"MISSING": "missing", "NEW": "new"}
    return {name: str(tmp_path / place) for name, place in named.items()}


def ended(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """The exit code of a command, and what it said on stderr."""
    monkeypatch.setattr(sys, "argv", ["feedback-chat", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("name", [n for n in taking("data") if n not in WITHOUT_DATA])
def test_a_data_directory_without_a_database_is_wrong_usage(
    name: str,
    places: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [places.get(word, word) for word in WORDS.get(name, [])]
    code, said = ended([*name.split(), *words, "--data", places["MISSING"]], capsys, monkeypatch)
    assert code == 2 and "no database in" in said and len(said.splitlines()) == 1
    assert not Path(places["MISSING"]).exists(), "and none is made"


@pytest.mark.parametrize("name", taking("config"))
def test_a_configuration_that_is_not_there_is_wrong_usage(
    name: str,
    places: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [places.get(word, word) for word in WORDS.get(name, [])]
    code, said = ended([*name.split(), *words, "--config", places["MISSING"]], capsys, monkeypatch)
    assert code == 2 and "no configuration file" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("name", READ)
def test_a_file_or_folder_to_read_that_is_not_there_is_wrong_usage(
    name: str,
    places: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [places.get(word, word) for word in READ[name]]
    code, said = ended([*name.split(), *words], capsys, monkeypatch)
    assert code == 2 and places["MISSING"] in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("bad", ["FILE", "/proc/nothing"])
@pytest.mark.parametrize("name", WRITE)
def test_a_folder_that_cannot_be_written_is_wrong_usage_before_the_work(
    name: str,
    bad: str,
    places: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = places.get(bad, bad)
    words = [folder if word == "BAD" else word for word in WRITE[name]]
    code, said = ended([*name.split(), *words], capsys, monkeypatch)
    assert code == 2 and folder in said and len(said.splitlines()) == 1
    assert "is not a folder" in said or "cannot write" in said
