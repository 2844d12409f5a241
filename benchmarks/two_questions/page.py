"""What was found as a page with plots, as Markdown and as JSON.

All three say that the world is synthetic and small, and how each rater came to its figures.
"""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.two_questions.asking import BOTH, Question
from benchmarks.two_questions.files import write_whole
from benchmarks.two_questions.found import TwoAnswers
from benchmarks.two_questions.model_judge import ModelJudged
from benchmarks.two_questions.tables import RATERS, WORLD, quantiles, sheets
from rlhf_core.reproduction.claims import Figure
from rlhf_core.reproduction.plots import Cross, lines, plane
from rlhf_core.reproduction.report import STYLE

OPPONENT = Figure(0.5)
AXES = ("share of replies more helpful than the base's", "more harmless")
PANELS = """
.panels { display: grid; gap: 1rem }
.panels { grid-template-columns: repeat(auto-fit, minmax(min(25rem, 100%), 1fr)) }
caption { padding-top: 1.5rem; text-align: start; font-weight: 700 } th.number { text-align: end }
"""
BINS = 24  # of scores


def write_page(found: TwoAnswers, out: Path) -> dict[str, Any]:
    """Write the page, the tables in Markdown, and the JSON that is returned, too."""
    result = as_facts(found)
    write_whole(out / "result.json", json.dumps(result, indent=1) + "\n")
    write_whole(out / "summary.md", markdown(found))
    write_whole(out / "index.html", "\n".join(page(found)) + "\n")
    return result


def as_facts(found: TwoAnswers) -> dict[str, Any]:
    """Everything but the single scores."""
    return dict(found.facts) | {
        "world": WORLD,
        "rounds": [asdict(one) for one in found.candidates],
        "wins": _plain(found.wins),
        "changes": _plain(found.changes),
        "flattery": _plain(found.flattery),
        "harms": _plain(found.harms),
        "without_answer": {
            name: {"right": one.right, "asked": one.asked} | _plain(one.share)
            for name, one in found.without_answer.items()
        },
        "shifts": _plain(found.shifts),
        "scores": {
            question: {name: quantiles(scores) for name, scores in by_name.items()}
            for question, by_name in found.scores.items()
        },
        "judge": {
            q: {"ties": one.ties} | asdict(one.report) if one else None
            for q, one in found.judge.items()
        },
    }


def _plain(figures: Any) -> Any:
    if isinstance(figures, Figure):
        bounds = {"value": figures.value, "low": figures.low, "high": figures.high}
        return {k: None if v is None else round(v, 4) for k, v in bounds.items()}
    return {name: _plain(one) for name, one in figures.items()}


def distributions(
    by_name: Mapping[str, Sequence[float]],
) -> dict[str, list[tuple[float, float]]]:
    """Of each policy the share of scores in each bin, at its middle; all have the same bins."""
    every = np.concatenate([np.asarray(scores) for scores in by_name.values()])
    edges = np.histogram_bin_edges(every, BINS)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    return {
        name: list(zip(middles, (np.histogram(s, edges)[0] / len(s)).tolist(), strict=True))
        for name, s in by_name.items()
    }


def markdown(found: TwoAnswers) -> str:
    """What has to be known of the figures, and all tables."""
    lines = [f"# Helpful and harmless, round by round ({WORLD})", ""]
    lines += [*(f"- {line}" for line in about(found)), ""]
    return "\n".join([*lines, *(line for sheet in sheets(found) for line in sheet.markdown())])


def about(found: TwoAnswers) -> Iterator[str]:
    """Lines of what has to be known of the figures."""
    yield f"Opponent of all: the base. Intervals: 95%, clustered by fact. {_run(found.facts)}."
    for one in found.candidates:
        if one.reasons:
            yield f"{one.name}, {one.state}: {'; '.join(one.reasons)}."
    yield from (f"{rater}: {said}." for rater, said in RATERS.items())
    for question in BOTH:
        yield f"model judge, {question}: {judge_said(found.judge.get(question))}"


def _run(facts: Mapping[str, Any]) -> str:
    """What was run, in a few words."""
    trained = facts["trained"]
    return (
        f"{trained['rounds']} rounds of {trained['events']} choices, seed {trained['seed']}; "
        f"{facts['requests']} requests a question, for the model judge {facts['judge_pairs']} of "
        f"them at most, seed {facts['seed']}; load {facts['load']:.1f}"
    )


def judge_said(one: ModelJudged | None) -> str:
    """What a model judge is worth, in one line."""
    if one is None:
        return "no model was asked; give --judge-url and --judge-model."
    report, first = one.report, one.report.first
    said = f"{one.model}, {report.pairs} pairs in both orders, {report.unclear} without a verdict"
    said += f", {one.ties} ties"
    if report.same.value is not None:
        said += f"; the same verdict in both orders on {report.same.value:.0%}"
    if first.value is not None:
        said += f"; where they differ, the first reply {first.value:.0%} of {first.total}"
        said += f" ({first.low:.0%} to {first.high:.0%})"
    return "; ".join([said, *report.found]) + "."


def page(found: TwoAnswers) -> Iterator[str]:
    """One HTML file that needs nothing else: no script, nothing from another address."""
    yield "<!doctype html><html lang='en'><meta charset='utf-8'>"
    yield "<meta name='viewport' content='width=device-width'>"
    yield f"<title>Helpful and harmless, round by round</title><style>{STYLE}{PANELS}</style>"
    yield f"<h1>Helpful and harmless, round by round</h1><p>{html.escape(WORLD)}.</p><ul>"
    yield from (f"<li>{html.escape(line)}" for line in about(found))
    yield "</ul><p>A hollow point is a candidate that the gate rejected; the line joins the others."
    yield "<div class='panels'>"
    for rater, said in RATERS.items():
        yield f"<section><h2>By {html.escape(rater)}</h2><p>{html.escape(said)}</p>"
        marks = crosses(found, found.wins.get(rater, {}))
        yield plane(marks, AXES, f"by {rater}; {WORLD}") if marks else "<p>No verdicts.</p>"
        yield "</section>"
    yield "</div>"
    for question, by_name in found.scores.items():
        yield f"<h2>Scores of replies that should be {question}, by the reward model</h2>"
        yield lines(
            distributions(by_name), ("score", "share of replies"), f"scores, {question}; {WORLD}"
        )
    yield "<h2>Tables</h2>"
    yield from (line for sheet in sheets(found) for line in sheet.html())


def crosses(found: TwoAnswers, wins: Mapping[str, Mapping[Question, Figure]]) -> list[Cross]:
    """The base in the middle, then each round that has both figures."""
    rounds = [
        Cross(one.name, by["helpful"], by["harmless"], joined=one.state == "promoted")
        for one in found.candidates
        if len(by := wins.get(one.name, {})) == len(BOTH)
    ]
    return [Cross("base", OPPONENT, OPPONENT), *rounds] if rounds else []
