"""The three plots of a cycle's report: scores of both adapters, win rate, KL.

Figures are made without pyplot, because threads would share its global state. Backgrounds are
transparent and text is mid-grey, so one picture suits the light and the dark page. Without finite
numbers a note replaces the plot. This module computes nothing; it draws the report's numbers.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chat_app.handlers.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, SERVED, CANDIDATE, ACCENT = "#7b8794", "#94a3b8", "#0d9488", "#b45309"
SIZE = (4.6, 3.0)  # inches
BINS = 24


def score_plot(report: Report) -> "Figure":
    """Distribution of reward-model scores: the served adapter's replies and the candidate's."""
    figure, axes = _canvas("Reward score of replies", "score", "replies")
    served, candidate = finite(report.scores_served), finite(report.scores_candidate)
    if not served or not candidate:
        return _nothing(figure, axes)
    low, high = min(served + candidate), max(served + candidate)
    edges = [low + (high - low or 1.0) * i / BINS for i in range(BINS + 1)]
    axes.hist(served, bins=edges, color=SERVED, alpha=0.75, label="served")
    axes.hist(candidate, bins=edges, color=CANDIDATE, alpha=0.65, label="candidate")
    axes.legend(frameon=False, labelcolor=GREY, fontsize=8)
    return figure


def win_plot(report: Report) -> "Figure":
    """Win rate of the candidate over the served adapter, with its one-sided 95% bounds."""
    figure, axes = _canvas("Win rate on held-out prompts", "candidate wins", "")
    rate = report.metrics.get("win_rate", math.nan)
    if not math.isfinite(rate):
        return _nothing(figure, axes)
    low = report.metrics.get("win_rate_low", rate)
    high = report.metrics.get("win_rate_high", rate)
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle="--")
    error = [[max(0.0, rate - low)], [max(0.0, high - rate)]]
    axes.errorbar([rate], [0], xerr=error, fmt="o", color=CANDIDATE, capsize=6, markersize=9)
    axes.annotate(
        f"{rate:.0%}", (rate, 0), (0, 12), textcoords="offset points", ha="center", color=GREY
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    return figure


def training_plot(report: Report) -> "Figure":
    """KL to the reference and mean score, per iteration of PPO."""
    figure, axes = _canvas("Training", "iteration", "KL, nats per reply")
    kl, score = finite(report.kl_per_iteration), finite(report.score_per_iteration)
    if not kl and not score:
        return _nothing(figure, axes)
    axes.plot(range(1, len(kl) + 1), kl, color=ACCENT, label="KL")
    right = axes.twinx()
    right.plot(range(1, len(score) + 1), score, color=CANDIDATE, label="score")
    _quiet(right)
    right.set_ylabel("mean score", color=CANDIDATE, fontsize=8)
    axes.yaxis.label.set_color(ACCENT)
    return figure


def finite(numbers: Sequence[float]) -> list[float]:
    """The finite ones of some numbers."""
    return [number for number in numbers if math.isfinite(number)]


def _canvas(title: str, x: str, y: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # takes a second, and only operators need it

    figure = Figure(figsize=SIZE, dpi=130, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.set_title(title, color=GREY, fontsize=10, loc="left")
    axes.set_xlabel(x, color=GREY, fontsize=8)
    axes.set_ylabel(y, color=GREY, fontsize=8)
    _quiet(axes)
    return figure, axes


def _quiet(axes: "Axes") -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=GREY, labelsize=8)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom")
        axes.spines[side].set_color(GREY)


def _nothing(figure: "Figure", axes: "Axes") -> "Figure":
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5,
        0.5,
        "no numbers in this report",
        ha="center",
        va="center",
        color=GREY,
        transform=axes.transAxes,
    )
    return figure
