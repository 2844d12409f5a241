"""The files of a running cycle are read as far as they are whole."""

import json
import os
from pathlib import Path

from chat_app.handlers.operate.live import curve_of, last_line

LONG_AGO = "2020-01-01T00:00:00.000+00:00"


def write(data: Path, *lines: object) -> Path:
    folder = data / "cycles" / "000001"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "metrics.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def test_nothing_is_told_of_a_cycle_that_has_written_nothing(tmp_path: Path) -> None:
    assert curve_of(tmp_path, 1) == ()
    assert last_line(tmp_path, 1, LONG_AGO) == ""


def test_a_resumed_stage_replaces_its_own_points(tmp_path: Path) -> None:
    point = {"stage": "policy", "objective/kl": 1.0, "objective/scores": 0.1}
    again = point | {"objective/kl": 3.0, "fraction": 0.5}
    other = {"stage": "reward", "fraction": 0.5, "objective/kl": 9.0, "objective/scores": 9.0}
    write(tmp_path, point | {"fraction": 0.5}, other, [1], again, point | {"fraction": 0.1})
    assert [one.kl for one in curve_of(tmp_path, 1)] == [1.0, 3.0]


def test_the_last_line_is_what_was_written_last(tmp_path: Path) -> None:
    file = write(tmp_path, {"stage": "policy", "fraction": 0.25, "iterations": 3, "eps": 21.5})
    assert last_line(tmp_path, 1, LONG_AGO) == "policy 25%  iterations 3  eps 21.5"
    output = tmp_path / "cycles" / "output.log"
    output.write_text("a warning of the cycle\n\n")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert last_line(tmp_path, 1, LONG_AGO) == "a warning of the cycle"
    assert last_line(tmp_path, 1, "2999-01-01T00:00:00.000+00:00").startswith("policy")
