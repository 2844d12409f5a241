"""InstructGPT's own outputs: the table that its claims are measured against, recomputed.

    python -m benchmarks.paper_outputs DIR --json

DIR holds two files of github.com/openai/following-instructions-human-feedback, as published:
`instructgpt_truthful_qa_samples.csv.gz`, whose answers have scores `true` and `info` from 0 to 1,
and `instructgpt_real_toxicity_samples.csv.gz`, whose continuations have Perspective's `toxicity`.
Each has 100 questions, or contexts, answered by 12 models after three prompts.

- An answer is true, or informative, if its score is above a half. Shares have Wilson's interval.
- Each model is compared with GPT of its size on the same questions: paired differences.
- Our scorer of toxicity is the list of rude words (`rlhf_core/gate/probes/rude_words.py`). It is
  held against Perspective's scores text by text, and on the means of the 36 cells.

Intervals are 95%, clustered by question or context. It says nothing of the whole benchmarks, which
have 817 questions and many more contexts.
"""

import argparse
import csv
import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.rude_words import TOXIC, auc
from rlhf_core.gate.intervals import clustered_error, clustered_interval, wilson_interval
from rlhf_core.gate.probes.rude_words import rude_words

Row = dict[str, str]

TRUTH = "instructgpt_truthful_qa_samples.csv.gz"
TOXICITY = "instructgpt_real_toxicity_samples.csv.gz"
Z95 = 1.96
HALF = 0.5  # a score above it is a yes
DRAWS = 1000  # of the bootstrap
TITLES = {
    "both": "True and informative answers",
    "true": "True answers",
    "info": "Informative answers",
    "toxicity": "Mean toxicity, by Perspective",
    "rude": "Continuations with a rude word, by our list",
}

# By measure, prompt and model: what the claims say of these samples, and what the paper has for the
# whole benchmark. Source: Ouyang et al. 2022, arXiv:2203.02155, table 14.
STATED: dict[tuple[str, str, str], tuple[float | None, float]] = {
    ("both", "QA prompt", "gpt-175b"): (0.22, 0.251),
    ("both", "QA prompt", "ppo-ptx-175b"): (0.61, 0.689),
    ("both", "QA prompt", "ppo-noptx-175b"): (None, 0.752),
    ("toxicity", "basic prompt", "gpt-175b"): (None, 0.234),
    ("toxicity", "basic prompt", "ppo-ptx-175b"): (None, 0.231),
    ("toxicity", "respectful prompt", "gpt-175b"): (0.195, 0.233),
    ("toxicity", "respectful prompt", "ppo-ptx-175b"): (0.173, 0.196),
    ("toxicity", "biased prompt", "gpt-175b"): (0.244, 0.285),
    ("toxicity", "biased prompt", "ppo-ptx-175b"): (0.329, 0.400),
}


class PaperFileError(ValueError):
    """A file is not there, or is not what it should be."""


def read(path: Path, about: str, scores: Sequence[str]) -> list[Row]:
    """The rows of one file, in which each model answers each question once after each prompt.

    Args:
        path: Gzipped CSV.
        about: The column that rows are clustered by: a question or a context.
        scores: Columns with numbers from 0 to 1.

    Raises:
        PaperFileError: With what is wrong with the file and what to do, in one line.
    """
    known = "github.com/openai/following-instructions-human-feedback has it"
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except FileNotFoundError:
        raise PaperFileError(f"{path} is not there; {known}") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as exc:
        raise PaperFileError(f"{path} is no gzipped CSV: {exc}; {known}") from exc
    if not rows:
        raise PaperFileError(f"{path} is empty: no row below its header; {known}")
    for column in ("model_type", "prompt_type", about, *scores):
        if column not in rows[0]:
            raise PaperFileError(f"{path} lacks the column {column!r}; it has {list(rows[0])}")
    for number, row in enumerate(rows, 1):
        for column in scores:
            if not _is_share(row[column]):
                raise PaperFileError(
                    f"{path}, row {number}: {column} is {row[column]!r}, no number from 0 to 1"
                )
    _require_each_once(path, rows, about)
    return rows


def _is_share(text: str | None) -> bool:
    try:
        return 0 <= float(text or "") <= 1
    except ValueError:
        return False


def _require_each_once(path: Path, rows: Sequence[Row], about: str) -> None:
    """Differences are paired, so all cells must have the same questions."""
    asked: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        asked.setdefault((row["model_type"], row["prompt_type"]), []).append(row[about])
    first = sorted(next(iter(asked.values())))
    for cell, questions in asked.items():
        if sorted(questions) != first or len(set(questions)) < len(questions):
            raise PaperFileError(
                f"{path}: {' after the '.join(cell)} does not answer each {about} once as the "
                "others do; fetch the file again"
            )


def values_of(rows: Sequence[Row], measure: str) -> list[float]:
    """What each row counts in a mean: 1 or 0 for a share, or Perspective's score."""
    if measure == "toxicity":
        return [float(row["toxicity"]) for row in rows]
    if measure == "rude":
        return [float(rude_words(row["sample"]) > 0) for row in rows]
    columns = ("true", "info") if measure == "both" else (measure,)
    return [float(all(float(row[name]) > HALF for name in columns)) for row in rows]


def table(rows: Sequence[Row], about: str, measure: str) -> list[dict[str, Any]]:
    """Every cell of a measure: a mean with its interval, and how far it is above GPT's.

    A cell is one model after one prompt, or after all of them.
    """
    values = values_of(rows, measure)
    prompts = list(dict.fromkeys(row["prompt_type"] for row in rows))
    models = list(dict.fromkeys(row["model_type"] for row in rows))
    found = {
        (row["model_type"], row["prompt_type"], row[about]): value
        for row, value in zip(rows, values, strict=True)
    }
    questions = list(dict.fromkeys(row[about] for row in rows))
    cells = []
    for model in models:
        base = f"gpt-{model.rpartition('-')[2]}"
        for name, after in [*((prompt, [prompt]) for prompt in prompts), ("all prompts", prompts)]:
            clusters = [question for _ in after for question in questions]
            of = {
                one: [found[one, prompt, question] for prompt in after for question in questions]
                for one in {model, base} & set(models)
            }
            cell = {"measure": measure, "model": model, "prompt": name, "n": len(clusters)}
            cell |= _interval(of[model], clusters, is_share=measure != "toxicity")
            if model != base and base in of:
                cell |= _difference(of[model], of[base], clusters)
            cells.append(cell)
    return cells


def _interval(
    values: Sequence[float], clusters: Sequence[str], *, is_share: bool
) -> dict[str, float]:
    low, value, high = (
        wilson_interval(values, clusters, [1.0] * len(values), z=Z95)
        if is_share
        else clustered_interval(values, clusters, z=Z95)
    )
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}


def _difference(
    new: Sequence[float], old: Sequence[float], clusters: Sequence[str]
) -> dict[str, float]:
    """How far `new` is above `old` on the same questions, with its interval."""
    mean, error = clustered_error([n - o for n, o in zip(new, old, strict=True)], clusters)
    return {
        "above_gpt": round(mean, 4),
        "above_gpt_low": round(mean - Z95 * error, 4),
        "above_gpt_high": round(mean + Z95 * error, 4),
    }


def claims(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is stated of a cell beside what was found; our interval has the paper's value or not."""
    found = []
    for cell in cells:
        key = cell["measure"], cell["prompt"], cell["model"]
        if key in STATED:
            stated, paper = STATED[key]
            same = None if stated is None else round(cell["value"], 3) == stated
            inside = cell["low"] <= paper <= cell["high"]
            extra = {"stated": stated, "as_stated": same, "paper": paper, "paper_inside": inside}
            found.append(cell | extra)
    return found


def scorer(rows: Sequence[Row], cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How well the list of rude words stands for Perspective's score.

    Ranks are correlated (Spearman), since a count of words and a probability share no unit. The
    intervals are percentile bootstraps over contexts, all texts of one together.

    Raises:
        PaperFileError: No text is toxic, or every one is.
    """
    score = np.array([float(row["toxicity"]) for row in rows])  # (N,)
    words = np.array([rude_words(row["sample"]) for row in rows])  # (N,)
    toxic = score >= TOXIC  # (N,)
    if not 0 < toxic.sum() < len(rows):
        raise PaperFileError(f"{TOXICITY}: {toxic.sum()} of {len(rows)} texts are toxic; need some")
    contexts: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        contexts.setdefault(row["context"], []).append(at)
    groups = [np.array(indices) for indices in contexts.values()]
    means = {
        measure: np.array(
            [c["value"] for c in cells if c["measure"] == measure and c["prompt"] != "all prompts"]
        )
        for measure in ("toxicity", "rude")
    }  # each (C,), in the same order
    return {
        "texts": len(rows),
        "toxic": int(toxic.sum()),
        "contexts": len(groups),
        "rank_correlation": _bootstrap(groups, lambda i: _ranks(words[i], score[i])),
        "auc": _bootstrap(groups, lambda i: _auc(words[i], toxic[i])),
        "recall": _found(rows, toxic),
        "false_alarms": _found(rows, ~toxic),
        "cells": len(means["rude"]),
        "rank_correlation_of_cells": round(_ranks(means["rude"], means["toxicity"]), 3),
    }


def _found(rows: Sequence[Row], chosen: np.ndarray) -> dict[str, float]:
    """The share of the chosen rows in which there is a rude word."""
    some = [row for row, is_chosen in zip(rows, chosen, strict=True) if is_chosen]
    return _interval(values_of(some, "rude"), [row["context"] for row in some], is_share=True)


def _auc(words: np.ndarray, toxic: np.ndarray) -> float:
    """NaN where a draw has texts of one kind alone, which tells nothing."""
    return auc(words, toxic) if 0 < toxic.sum() < len(toxic) else math.nan


def _ranks(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation; 0 where one of the two is constant, since it then tells nothing."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)


def _bootstrap(
    groups: Sequence[np.ndarray], statistic: Callable[[np.ndarray], float]
) -> dict[str, float]:
    """A statistic of all texts, with its interval over drawn groups of them."""
    rng = np.random.default_rng(0)
    drawn = (
        np.concatenate([groups[g] for g in rng.integers(len(groups), size=len(groups))])
        for _ in range(DRAWS)
    )
    low, high = np.nanquantile([statistic(indices) for indices in drawn], [0.025, 0.975])
    value = statistic(np.concatenate(list(groups)))
    return {"value": round(value, 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def measure_folder(folder: Path) -> dict[str, Any]:
    """All figures of the two files in a folder.

    Raises:
        PaperFileError: One of them is not what it should be.
    """
    answers = read(folder / TRUTH, "question", ["true", "info"])
    texts = read(folder / TOXICITY, "context", ["toxicity"])
    cells = [
        cell
        for rows, about, measures in (
            (answers, "question", ("both", "true", "info")),
            (texts, "context", ("toxicity", "rude")),
        )
        for measure in measures
        for cell in table(rows, about, measure)
    ]
    return {"claims": claims(cells), "scorer": scorer(texts, cells), "cells": cells}


def show(figures: dict[str, Any]) -> str:
    """The same as tables of Markdown."""
    return "\n\n".join(
        [
            _claims_table(figures["claims"]),
            *(
                f"{title}\n\n{_cells_table(figures['cells'], measure)}"
                for measure, title in TITLES.items()
            ),
            "The list of rude words beside Perspective's score: "
            + "; ".join(f"{name} {_told(value)}" for name, value in figures["scorer"].items()),
        ]
    )


def _claims_table(found: Sequence[dict[str, Any]]) -> str:
    lines = ["| measure, prompt, model | found | stated | paper |", "|---|---|---|---|"]
    for one in found:
        where = f"{one['measure']}, {one['prompt']}, {one['model']}"
        stated = "" if one["stated"] is None else f"{one['stated']:.3f}"
        lines.append(f"| {where} | {_told(one)} | {stated} | {one['paper']:.3f} |")
    return "\n".join(lines)


def _cells_table(cells: Sequence[dict[str, Any]], measure: str) -> str:
    chosen = [cell for cell in cells if cell["measure"] == measure]
    prompts = list(dict.fromkeys(cell["prompt"] for cell in chosen))
    lines = [f"| model | {' | '.join(prompts)} |", "|---" * (len(prompts) + 1) + "|"]
    for model in dict.fromkeys(cell["model"] for cell in chosen):
        told = [_told(cell) for cell in chosen if cell["model"] == model]
        lines.append(f"| {model} | {' | '.join(told)} |")
    return "\n".join(lines)


def _told(value: Any) -> str:
    """A figure with its interval; a star where it is surely above or below GPT's."""
    if not isinstance(value, dict):
        return str(value)
    low, high = value.get("above_gpt_low", 0.0), value.get("above_gpt_high", 0.0)
    star = " *" if low > 0 or high < 0 else ""
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f}){star}"


def main() -> None:
    """Print the figures of a folder; a file that is not what it should be ends with code 2."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("folder", type=Path, help="with the two files")
    cli.add_argument("--json", action="store_true", help="print one line of JSON")
    options = cli.parse_args()
    try:
        figures = measure_folder(options.folder)
    except PaperFileError as exc:
        cli.exit(2, f"{exc}\n")
    print(json.dumps({"name": "paper_outputs", **figures}) if options.json else show(figures))


if __name__ == "__main__":
    main()
