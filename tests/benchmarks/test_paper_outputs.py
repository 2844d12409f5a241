import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.paper_outputs import (
    TOXICITY,
    TRUTH,
    PaperFileError,
    claims,
    measure_folder,
    read,
    show,
    table,
)

Rows = list[dict[str, Any]]
PROMPTS = ("QA prompt", "instruction prompt")


def answers(model: str, *right: bool, prompt: str = "QA prompt") -> Rows:
    """Answers to questions q0, q1, ...: informative, and true where right."""
    return [
        {
            "": str(number),
            "model_type": model,
            "prompt_type": prompt,
            "adversarial": "True",
            "question": f"q{number}",
            "answer": "Yes.",
            "true": str(0.99 if is_right else 3e-7),
            "info": "1.0",
        }
        for number, is_right in enumerate(right)
    ]


def continuations(model: str, *toxicity: float, prompt: str = "basic prompt") -> Rows:
    """Continuations of contexts c0, c1, ..., with a rude word where the score is above .8."""
    return [
        {
            "": str(number),
            "model_type": model,
            "prompt_type": prompt,
            "context": f"c{number}",
            "sample": "you bastard" if score > 0.8 else "“Good” day, neighbour.",
            "toxicity": str(score),
        }
        for number, score in enumerate(toxicity)
    ]


def write(path: Path, rows: Rows) -> Path:
    with gzip.open(path, "wt", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def folder(path: Path) -> Path:
    write(
        path / TRUTH,
        answers("gpt-175b", True, False, False, False)
        + answers("ppo-ptx-175b", True, True, True, False),
    )
    rows = continuations("gpt-175b", 0.1, 0.2, 0.9, 0.4)
    write(path / TOXICITY, rows + continuations("ppo-ptx-175b", 0.1, 0.2, 0.1, 0.85))
    return path


def cell(cells: Rows, **wanted: str) -> dict[str, Any]:
    (found,) = [c for c in cells if all(c[name] == value for name, value in wanted.items())]
    return found


def test_a_cell_is_a_share_and_its_difference_from_gpt_is_paired(tmp_path: Path) -> None:
    cells = measure_folder(folder(tmp_path))["cells"]
    gpt = cell(cells, measure="both", model="gpt-175b", prompt="QA prompt")
    ptx = cell(cells, measure="both", model="ppo-ptx-175b", prompt="QA prompt")
    assert (gpt["value"], ptx["value"]) == (0.25, 0.75)
    assert gpt["low"] < 0.25 < gpt["high"]
    assert "above_gpt" not in gpt
    assert ptx["above_gpt"] == 0.5
    # by hand: differences 0, 1, 1, 0 of four questions; the error is sqrt(1 / 16 * 4 / 3)
    assert ptx["above_gpt_low"] == pytest.approx(0.5 - 1.96 * (1 / 12) ** 0.5, abs=1e-4)


def test_an_answer_that_says_nothing_is_true_and_not_informative() -> None:
    rows = answers("gpt-xl", True, True)
    rows[0]["info"] = "0.0"
    of = {name: table(rows, "question", name)[0]["value"] for name in ("true", "info", "both")}
    assert of == {"true": 1.0, "info": 0.5, "both": 0.5}


def test_toxicity_is_a_mean_and_the_list_finds_what_has_a_rude_word(tmp_path: Path) -> None:
    figures = measure_folder(folder(tmp_path))
    assert cell(figures["cells"], measure="toxicity", model="gpt-175b", prompt="basic prompt")[
        "value"
    ] == pytest.approx(0.4)
    scorer = figures["scorer"]
    assert (scorer["texts"], scorer["toxic"], scorer["contexts"]) == (8, 2, 4)
    assert scorer["auc"]["value"] == scorer["recall"]["value"] == 1.0
    assert scorer["false_alarms"]["value"] == 0.0
    assert 0 < scorer["rank_correlation"]["value"] < 1  # the list sees nothing below .8


def test_a_claim_stands_beside_what_was_found(tmp_path: Path) -> None:
    found = claims(measure_folder(folder(tmp_path))["cells"])
    gpt = cell(found, model="gpt-175b", measure="both", prompt="QA prompt")
    assert (gpt["stated"], gpt["as_stated"], gpt["paper"]) == (0.22, False, 0.251)
    assert gpt["paper_inside"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_all_prompts_together_are_the_mean_of_the_prompts(right: list[tuple[bool, bool]]) -> None:
    rows = [
        row
        for prompt, values in zip(PROMPTS, zip(*right, strict=True), strict=True)
        for row in answers("gpt-xl", *values, prompt=prompt)
    ]
    *each, together = table(rows, "question", "both")
    assert together["value"] == pytest.approx(sum(c["value"] for c in each) / 2, abs=1e-4)
    assert together["low"] <= together["value"] <= together["high"]
    assert together["prompt"] == "all prompts"


def run(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "benchmarks.paper_outputs", str(path), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_command_prints_one_line_of_json(tmp_path: Path) -> None:
    done = run(folder(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["name"] == "paper_outputs"


def test_a_file_that_is_not_there_is_one_line_and_code_2(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path / TRUTH} is not there" in line


def test_the_tables_name_every_model(tmp_path: Path) -> None:
    text = show(measure_folder(folder(tmp_path)))
    assert "| ppo-ptx-175b | 0.750" in text
    assert text.count("| gpt-175b |") == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: [{k: v for k, v in r.items() if k != "info"} for r in rows], "'info'"),
        (lambda rows: [{**rows[0], "true": "nan"}, *rows[1:]], "row 1: true is 'nan'"),
        (lambda rows: [{**rows[0], "true": ""}, *rows[1:]], "row 1: true is ''"),
        (lambda rows: rows[:-1], "does not answer each question once"),
        (lambda rows: [*rows, rows[-1]], "does not answer each question once"),
    ],
    ids=["no column", "no number", "nothing", "one answer lacks", "one answer twice"],
)
def test_a_wrong_file_says_what_is_wrong(change: Any, says: str, tmp_path: Path) -> None:
    rows = answers("gpt-xl", True, False) + answers("sft-xl", True, False)
    path = write(tmp_path / TRUTH, change(rows))
    with pytest.raises(PaperFileError, match=says) as caught:
        read(path, "question", ["true", "info"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(  # with a time of their own, the tests of two processes had two names
    "content",
    [b"", gzip.compress(b"", mtime=0), gzip.compress(b"question,true\n", mtime=0)],
    ids=["nothing", "packed nothing", "a head"],
)
def test_an_empty_file_says_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / TRUTH).write_bytes(content)
    with pytest.raises(PaperFileError, match="is empty"):
        read(tmp_path / TRUTH, "question", ["true", "info"])


def test_a_file_that_is_not_compressed_says_so(tmp_path: Path) -> None:
    (tmp_path / TRUTH).write_text("question,true\n")
    with pytest.raises(PaperFileError, match="is no gzipped CSV"):
        read(tmp_path / TRUTH, "question", ["true", "info"])
