"""The tables of what was found, for Markdown and for the page: the same rows in both."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.two_questions.asking import BOTH
from benchmarks.two_questions.found import TwoAnswers
from rlhf_core.reproduction.claims import Figure

WORLD = "synthetic small world, 2.1M parameters; all people are simulated"
RATERS = {  # and what has to be known of each
    "people": "simulated people who made no training data; each pair by one of them",
    "model judge": "a language model, each pair in both orders; equal replies are a tie unasked",
    "reward model": "the service's own newest one: it flatters, as policies were trained on it",
    "gold": "the exact judge, for reference",
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: its title, its heads, and its rows, of which the first cells say what they are."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1  # cells of a row before its figures

    def markdown(self) -> Iterator[str]:
        """Its lines in Markdown."""
        yield from (f"## {self.title}", "")
        for row in (self.heads, ["---"] * len(self.heads), *self.rows):
            yield f"| {' | '.join(row)} |"
        yield ""

    def html(self) -> Iterator[str]:
        """Its lines in HTML; a narrow window scrolls it within its own frame."""
        yield f"<div class='wide'><table><caption>{html.escape(f'{self.title}; {WORLD}')}</caption>"
        kinds = ("th scope='col'", "th scope='col'"), *[("th scope='row'", "td")] * len(self.rows)
        for (label, number), row in zip(kinds, (self.heads, *self.rows), strict=True):
            begins = [label] * self.labels + [f"{number} class='number'"] * len(row[self.labels :])
            cells = (f"<{b}>{html.escape(cell)}" for b, cell in zip(begins, row, strict=True))
            yield f"<tr>{''.join(cells)}"
        yield "</table></div>"


def sheets(found: TwoAnswers) -> list[Sheet]:
    """Who prefers what to the base and how that changed, what replies do wrong and what they score.

    What was not measured has no sheet.
    """
    states = {one.name: f"{one.name}, {one.state}" for one in found.candidates}
    made = (
        _preferred(found, states),
        _differences(found),
        _harms(found, states),
        _without_answer(found, states),
        _scores(found, states),
    )
    return [sheet for sheet in made if sheet.rows]


def _preferred(found: TwoAnswers, states: Mapping[str, str]) -> Sheet:
    rows = [
        (states.get(name, name), rater, *(shown(by.get(q)) for q in BOTH))
        for rater in RATERS
        for name, by in found.wins.get(rater, {}).items()
    ]
    heads = ("policy", "preferred to the base by", "more helpful", "more harmless")
    return Sheet("Preferred to the base", heads, rows, 2)


def _differences(found: TwoAnswers) -> Sheet:
    first = found.candidates[0].name if found.candidates else ""
    rows = [
        (f"{name} less {first}", rater, *(points(by.get(q)) for q in BOTH))
        for rater, by_name in found.changes.items()
        for name, by in by_name.items()
    ]
    rows += [
        (name, "reward model less gold", *(points(by.get(q)) for q in BOTH))
        for name, by in found.flattery.items()
    ]
    heads = ("policy", "by", "more helpful, points", "more harmless, points")
    return Sheet("Differences of these shares, request by request", heads, rows, 2)


def _harms(found: TwoAnswers, states: Mapping[str, str]) -> Sheet:
    rows = [
        (states.get(name, name), *map(shown, rates.values())) for name, rates in found.harms.items()
    ]
    heads = ("policy", "rude", "repeats the myth")
    return Sheet("Replies to provoking requests", heads, rows)


def _without_answer(found: TwoAnswers, states: Mapping[str, str]) -> Sheet:
    rows = [
        (states.get(name, name), f"{one.right} of {one.asked}", shown(one.share))
        for name, one in found.without_answer.items()
    ]
    heads = ("policy", "say that they do not know", "share")
    return Sheet("Replies to requests that have no answer", heads, rows)


def _scores(found: TwoAnswers, states: Mapping[str, str]) -> Sheet:
    rows = [
        (
            states.get(name, name),
            question,
            *(f"{quantiles(scores)[key]:+.2f}" for key in ("mean", "lowest tenth")),
            _shift(found.shifts.get(name, {}).get(question)),
        )
        for question, by_name in found.scores.items()
        for name, scores in by_name.items()
    ]
    heads = ("policy", "question", "mean", "lowest tenth", "more than the base")
    return Sheet("Scores by the reward model", heads, rows, 2)


def quantiles(scores: Sequence[float]) -> dict[str, float]:
    """The mean of scores, and where their tenths begin and end."""
    low, middle, high = np.quantile(scores, (0.1, 0.5, 0.9)).tolist()
    found = {"mean": float(np.mean(scores)), "lowest tenth": low, "median": middle}
    return {k: round(v, 3) for k, v in (found | {"highest tenth": high}).items()}


def shown(figure: Figure | None) -> str:
    """A share in per cent with its interval."""
    return _shown(figure, "{:.0%}")


def points(figure: Figure | None) -> str:
    """A difference of two shares in percentage points with its interval."""
    if figure is None:
        return ""
    low, high = (None if one is None else 100 * one for one in (figure.low, figure.high))
    return _shown(Figure(100 * figure.value, low, high), "{:+.1f}")


def _shift(figure: Figure | None) -> str:
    return _shown(figure, "{:+.2f}")


def _shown(figure: Figure | None, form: str) -> str:
    if figure is None:
        return ""
    value = form.format(figure.value)
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({form.format(figure.low)} to {form.format(figure.high)})"
