"""Building a model of the miniature world by the command."""

import json
import sys
from pathlib import Path

import pytest

from chat_app.commands.main import main


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["feedback-chat", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_model_that_learnt_too_little_is_said_in_one_line_and_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "models" / "nano"
    build = ("starter", "build", path, "--size", "nano", "--steps", "2", "--seed", "7")
    assert run(monkeypatch, *build) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "of the almanac after 2 steps" in said and "build it with more steps" in said
    assert json.loads((path / "build.json").read_text())["size"] == "nano"


def test_a_folder_that_is_a_file_is_refused_before_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "nano").write_text("mine")
    build = ("starter", "build", tmp_path / "nano", "--size", "nano", "--steps", "1000000")
    assert run(monkeypatch, *build) == 2
    assert "nano is not a folder; give another" in capsys.readouterr().err
    assert (tmp_path / "nano").read_text() == "mine"
