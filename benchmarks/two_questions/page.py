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
from benchmarks.two_questions.found import TwoAnswers
from benchmarks.two_questions.model_judge import ModelJudged
from rlhf_core.reproduction.claims import Figure
from rlhf_core.reproduction.plots import Cross, lines, plane
from rlhf_core.reproduction.report import STYLE

WORLD = "synthetic small world, 2.1M parameters; all people are simulated"
OPPONENT = Figure(0.5)
RATERS = {  # and what has to be known of each
    "people": "simulated people who made no training data; each pair by one of them",
    "model judge": "a language model, each pair in both orders",
    "reward model": "the service's own newest one: it flatters, as policies were trained on it",
    "gold": "the exact judge, for reference",
}
AXES = ("share of replies more helpful than the base's", "more harmless")
PANELS = """
.panels { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(25rem, 1fr)) }
"""
BINS = 24  # of scores


def write_page(found: TwoAnswers, out: Path) -> dict[str, Any]:
    """Write the page, the tables in Markdown, and the JSON that is returned, too."""
    result = as_facts(found)
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "summary.md").write_text(markdown(found))
    (out / "index.html").write_text("\n".join(page(found)) + "\n", encoding="utf-8")
    return result


def as_facts(found: TwoAnswers) -> dict[str, Any]:
    """Everything but the single scores."""
    return dict(found.facts) | {
        "world": WORLD,
        "rounds": [asdict(one) for one in found.candidates],
        "wins": _plain(found.wins),
        "harms": _plain(found.harms),
        "shifts": _plain(found.shifts),
        "scores": {
            question: {name: quantiles(scores) for name, scores in by_name.items()}
            for question, by_name in found.scores.items()
        },
        "judge": {q: asdict(one.report) if one else None for q, one in found.judge.items()},
    }


def _plain(figures: Any) -> Any:
    if isinstance(figures, Figure):
        bounds = {"value": figures.value, "low": figures.low, "high": figures.high}
        return {k: None if v is None else round(v, 4) for k, v in bounds.items()}
    return {name: _plain(one) for name, one in figures.items()}


def quantiles(scores: Sequence[float]) -> dict[str, float]:
    """The mean of scores, and where their tenths begin and end."""
    low, middle, high = np.quantile(scores, (0.1, 0.5, 0.9)).tolist()
    found = {"mean": float(np.mean(scores)), "lowest tenth": low, "median": middle}
    return {k: round(v, 3) for k, v in (found | {"highest tenth": high}).items()}


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


def shown(figure: Figure | None) -> str:
    """A share in per cent with its interval."""
    if figure is None:
        return ""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.0%}"
    return f"{figure.value:.0%} ({figure.low:.0%} to {figure.high:.0%})"


def markdown(found: TwoAnswers) -> str:
    """The tables: who prefers what to the base, what replies do wrong, what they score."""
    states = {one.name: f"{one.name}, {one.state}" for one in found.candidates}
    rows = [
        "| policy | preferred to the base by | more helpful | more harmless |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| {states.get(name, name)} | {rater} | {shown(by_question.get('helpful'))} "
        f"| {shown(by_question.get('harmless'))} |"
        for rater in RATERS
        for name, by_question in found.wins.get(rater, {}).items()
    ]
    harms = ["| policy, provoked | rude | repeats the myth |", "|---|---|---|"]
    harms += [
        f"| {states.get(name, name)} | {' | '.join(shown(one) for one in rates.values())} |"
        for name, rates in found.harms.items()
    ]
    scores = ["| score by the reward model | question | mean | lowest tenth | more than the base |"]
    scores += ["|---|---|---|---|---|"]
    scores += [
        f"| {states.get(name, name)} | {question} | {q['mean']:+.2f} | {q['lowest tenth']:+.2f} "
        f"| {_shift(found.shifts.get(name, {}).get(question))} |"
        for question, by_name in found.scores.items()
        for name, q in ((n, quantiles(s)) for n, s in by_name.items())
    ]
    heads = [f"# Helpful and harmless, round by round ({WORLD})", "", *about(found)]
    return "\n".join([*heads, "", *rows, "", *harms, "", *scores, ""])


def _shift(figure: Figure | None) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{figure.value:+.2f} ({figure.low:+.2f} to {figure.high:+.2f})"


def about(found: TwoAnswers) -> Iterator[str]:
    """Lines of what has to be known of the figures."""
    yield f"- Opponent of all: the base. Intervals: 95%, clustered by fact. Load: {_load(found)}."
    yield from (f"- {rater}: {said}." for rater, said in RATERS.items())
    for question in BOTH:
        yield f"- model judge, {question}: {judge_said(found.judge.get(question))}"


def _load(found: TwoAnswers) -> str:
    return f"{found.facts['load']:.1f}" if "load" in found.facts else "unknown"


def judge_said(one: ModelJudged | None) -> str:
    """What a model judge is worth, in one line."""
    if one is None:
        return "no model was asked; give --judge-url and --judge-model."
    report, first = one.report, one.report.first
    said = f"{one.model}, {report.pairs} pairs in both orders, {report.unclear} without a verdict"
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
    yield from (f"<li>{html.escape(line.removeprefix('- '))}" for line in about(found))
    yield "</ul><p>A hollow point is a candidate that the gate rejected; the line joins the others."
    yield "<div class='panels'>"
    for rater, said in RATERS.items():
        yield f"<section><h2>By {html.escape(rater)}</h2><p>{html.escape(said)}</p>"
        crosses = points(found, found.wins.get(rater, {}))
        yield plane(crosses, AXES, f"by {rater}; {WORLD}") if crosses else "<p>No verdicts.</p>"
        yield "</section>"
    yield "</div>"
    for question, by_name in found.scores.items():
        yield f"<h2>Scores of replies that should be {question}, by the reward model</h2>"
        yield lines(
            distributions(by_name), ("score", "share of replies"), f"scores, {question}; {WORLD}"
        )
    yield f"<h2>Tables</h2><pre class='wide'>{html.escape(markdown(found))}</pre>"


def points(found: TwoAnswers, wins: Mapping[str, Mapping[Question, Figure]]) -> list[Cross]:
    """The base in the middle, then each round that has both figures."""
    rounds = [
        Cross(one.name, by["helpful"], by["harmless"], joined=one.state == "promoted")
        for one in found.candidates
        if len(by := wins.get(one.name, {})) == len(BOTH)
    ]
    return [Cross("base", OPPONENT, OPPONENT), *rounds] if rounds else []
