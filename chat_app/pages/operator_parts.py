"""The components of the operator page, and the updates that show the state of the service.

Tables are plain HTML made from escaped text: they are small, need no script, and a screen reader
reads them as tables. The events are in ``operator.py``.
"""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

from chat_app.cycles.status import on_held_out_raters, skipped_sft, time_left
from chat_app.handlers.operator import Overview
from chat_app.handlers.report import Report
from chat_app.pages.plots import score_plot, training_plot, win_plot
from feedback_store.records import CYCLE_STAGES, Cycle

Update = dict[Any, Any]

MARKS = {
    "promoted": "good",
    "published": "good",
    "passed": "good",
    "served": "good",
    "rejected": "bad",
    "rolled back": "bad",
    "failed": "bad",
    "cancelled": "wait",
    "stopped": "bad",
}
NAMES = {
    "raters": "raters",
    "messages": "messages",
    "thumbs": "thumbs",
    "choices": "choices",
    "rankings": "rankings",
    "demonstrations": "better answers",
    "comparisons": "comparisons",
    "unused_comparisons": "new since the last cycle",
}
LOOKS = {
    "mean_tokens": "mean length in tokens",
    "mean_words": "mean length in words",
    "unfinished_rate": "share that does not end within the longest length",
    "cut_rate": "share that ends in mid-sentence",
    "repeated_rate": "share that repeats itself",
    "empty_rate": "share without text",
    "same_rate": "share of pairs of different questions with the same reply",
}
NO_REPORT = "This cycle has no report: it was not evaluated."
NOTHING_CHOSEN = "There is no report yet."


class Confirm:
    """A confirmation before an action that all visitors notice.

    The answer is for the `subject` that the question named, whatever is chosen elsewhere since.
    With a `warning` to show, the action also needs the tick at `force`.
    """

    def __init__(self, yes: str, name: str, no: str = "Cancel") -> None:
        with gr.Column(visible=False, elem_classes="card", elem_id=f"confirm-{name}") as self.card:
            self.question = gr.Markdown()
            self.warning = gr.HTML(visible=False)
            self.force = gr.Checkbox(label="Serve it anyway", visible=False)
            with gr.Row():
                self.yes = gr.Button(yes, variant="stop", size="sm", min_width=140)
                self.no = gr.Button(no, size="sm", min_width=100)
        self.subject = gr.Textbox(visible=False)

    @property
    def parts(self) -> list[Any]:
        """The components that change."""
        return [self.card, self.question, self.warning, self.force, self.subject]

    def ask(self, question: str, subject: str = "", warning: str | None = None) -> Update:
        """Show the question, with the warning if there is one."""
        warned = warning is not None
        return {
            self.card: gr.update(visible=True),
            self.question: question,
            self.warning: gr.update(
                value=f'<p class="bad" role="alert">{_text(warning)}</p>', visible=warned
            ),
            self.force: gr.update(value=False, visible=warned),
            self.subject: subject,
        }

    def close(self) -> Update:
        """Hide it, and take the tick back."""
        return {self.card: gr.update(visible=False), self.force: gr.update(value=False)}


TOP = """<div class="bar"><h1>feedback-chat · operator</h1><a href="../">chat</a>
<form method="post" action="logout"><button type="submit" class="link">log out</button></form>
</div>"""


class OperatorParts:
    """All components of the page; make it inside an open ``gr.Blocks``."""

    def __init__(self) -> None:
        self.timer = gr.Timer(2.0, active=False)
        self.seen = gr.Textbox(visible=False)
        with gr.Column(elem_classes="wide"):
            gr.HTML(TOP)
            with gr.Column(visible=False) as self.room:
                self._now()
                self._past()
                self._adapters()

    def _now(self) -> None:
        self.serving = gr.HTML()
        self.counts = gr.HTML()
        with gr.Column(elem_classes="card", visible=False) as self.trial_card:
            self.trial = gr.HTML(elem_id="trial")
            self.stop_trial = gr.Button("Stop comparing", size="sm", elem_id="stop-trial")
        with gr.Column(elem_classes="card"):
            self.progress = gr.HTML()
            with gr.Row():
                self.run = gr.Button("Run a cycle", variant="primary", elem_id="run")
                self.cancel = gr.Button("Cancel the cycle", elem_id="cancel", visible=False)
            self.cancel_sure = Confirm("Yes, cancel it", "cancel", no="Let it run")

    def _past(self) -> None:
        gr.Markdown("### Cycles")
        self.cycles = gr.HTML()
        gr.Markdown("### Report")
        self.cycle = gr.Dropdown([], label="Report of", elem_id="report-of", filterable=False)
        self.verdict = gr.HTML(elem_id="verdict")
        with gr.Row():
            self.plots = [
                gr.Plot(show_label=False, container=False, elem_id=f"plot-{name}", min_width=260)
                for name in ("scores", "wins", "training")
            ]
        self.samples = gr.HTML()

    def _adapters(self) -> None:
        gr.Markdown("### Adapters")
        self.adapters = gr.HTML()
        with gr.Row(elem_classes="bottom"):
            self.target = gr.Dropdown([], label="Adapter to serve", filterable=False, scale=3)
            self.promote = gr.Button("Promote", scale=1, min_width=120)
            self.canary = gr.Button("Let people compare", scale=1, min_width=160)
            self.back = gr.Button("Roll back", scale=1, min_width=120)
        self.canary_sure = Confirm("Yes, let people compare", "canary")
        self.promote_sure = Confirm("Yes, promote", "promote")
        self.back_sure = Confirm("Yes, roll back", "back")

    @property
    def live(self) -> list[Any]:
        """All components that show the present state."""
        return [
            self.room,
            self.timer,
            self.seen,
            self.serving,
            self.counts,
            self.trial_card,
            self.trial,
            self.progress,
            self.run,
            self.cancel,
            self.cycles,
            self.cycle,
            self.adapters,
            self.target,
            self.back,
        ]

    @property
    def report(self) -> list[Any]:
        """The components that show a report."""
        return [self.verdict, *self.plots, self.samples]

    # State to updates

    def closed(self) -> Update:
        """Show nothing to somebody who is not the operator."""
        return {self.room: gr.update(visible=False), self.timer: gr.update(active=False)}

    def show(self, overview: Overview, seen: str) -> Update:
        """Show the page to the operator; lists are replaced only when they change."""
        update = {
            self.room: gr.update(visible=True),
            self.timer: gr.update(active=True),
            self.serving: _serving(overview),
            self.counts: _counts(overview),
            self.trial_card: gr.update(visible=overview.trial is not None),
            self.trial: f'<p role="status">{_text(overview.trial)}</p>',
            self.progress: _progress(overview),
            self.run: gr.update(interactive=not overview.busy),
            self.cancel: gr.update(visible=overview.busy),
            self.cycles: _cycles(overview),
            self.adapters: _adapters(overview),
            self.back: gr.update(interactive=overview.previous is not None),
        }
        finished = [cycle for cycle in overview.cycles if cycle.state != "running"]
        now_seen = f"{[cycle.id for cycle in finished]}{overview.promotable}{overview.rejected}"
        if now_seen != seen:
            update[self.seen] = now_seen
            update |= self._lists(finished, overview)
        return update

    def _lists(self, finished: Sequence[Cycle], overview: Overview) -> Update:
        targets = [(name, name) for name in overview.promotable]
        refused = [(f"{name} (rejected)", name) for name in overview.rejected]
        choices = [(f"Cycle {cycle.id}: {cycle.state}", str(cycle.id)) for cycle in finished]
        return {
            self.cycle: gr.update(choices=choices, value=choices[0][1] if choices else None),
            self.target: gr.update(
                choices=targets + refused, value=targets[-1][1] if targets else None
            ),
        }

    def show_report(self, report: Report | None, *, chosen: bool) -> Update:
        """Show a cycle's report: the verdict with its checks, the plots, the samples."""
        if report is None:
            empty = f'<p class="quiet">{NO_REPORT if chosen else NOTHING_CHOSEN}</p>'
            hidden = {plot: gr.update(value=None, visible=False) for plot in self.plots}
            return {self.verdict: empty, self.samples: "", **hidden}
        known = (report.scores_candidate, "win_rate" in report.metrics, report.kl_per_iteration)
        drawn = zip(self.plots, (score_plot, win_plot, training_plot), known, strict=True)
        shown = {
            plot: gr.update(value=draw(report) if numbers else None, visible=bool(numbers))
            for plot, draw, numbers in drawn
        }
        return {self.verdict: _verdict(report), self.samples: _samples(report), **shown}


def _serving(overview: Overview) -> str:
    previous = f" · before: <b>{_text(overview.previous)}</b>" if overview.previous else ""
    return (
        f'<div class="bar"><span class="pill">serving: <b>{_text(overview.serving)}</b>'
        f"{previous}</span></div>"
    )


def _counts(overview: Overview) -> str:
    cells = (
        f'<div class="stat"><b>{count:,}</b><span>{_text(NAMES.get(name, name))}</span></div>'
        for name, count in overview.counts.items()
    )
    return f'<div class="stats">{"".join(cells)}</div>'


def _progress(overview: Overview) -> str:
    cycle = overview.running
    if cycle is None:
        state = "A cycle is starting." if overview.busy else "No cycle is running."
        return f'<p class="quiet" role="status">{state}</p>'
    percent = round(100 * min(1.0, max(0.0, cycle.progress)))
    stages = " → ".join(
        f"<b>{stage}</b>" if stage == cycle.stage else stage for stage in CYCLE_STAGES[:-1]
    )
    left = time_left(cycle)
    return (
        f'<p role="status">Cycle {cycle.id} is running: {percent}%{left and f", {left}"}</p>'
        f'<div class="meter" role="progressbar" aria-label="Cycle {cycle.id}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        f'<p class="quiet">{stages}</p>'
    )


def _cycles(overview: Overview) -> str:
    if not overview.cycles:
        return f'<p class="quiet">{overview.before_the_first}</p>'
    return _table(
        ("cycle", "state", "stage", "adapter", "win rate", "started", "reasons"),
        (
            (
                str(cycle.id),
                _mark(_state(cycle, overview)),
                _text(cycle.stage),
                _text(cycle.adapter),
                _number(cycle.metrics.get("win_rate")),
                _when(cycle.started_at),
                "<br>".join(_text(reason) for reason in cycle.reasons),
            )
            for cycle in overview.cycles
        ),
    )


def _state(cycle: Cycle, overview: Overview) -> str:
    """The state in the row; "stopped" for a cycle that was killed and left its row at "running"."""
    return "stopped" if cycle.state == "running" and not overview.busy else cycle.state


def _adapters(overview: Overview) -> str:
    newest_first = sorted(overview.adapters, key=lambda adapter: adapter.name, reverse=True)
    return _table(
        ("adapter", "stage", "made from", "cycle", "made"),
        (
            (
                f"<b>{_text(a.name)}</b>" if a.name == overview.serving else _text(a.name),
                _mark(overview.stages[a.name]),
                _text(a.parent),
                _text(a.cycle_id),
                _when(a.created_at),
            )
            for a in newest_first
        ),
    )


def _verdict(report: Report) -> str:
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in report.reasons)
    verdict = (
        f'<p class="bad"><b>Not promoted</b></p><ul>{reasons}</ul>'
        if report.reasons
        else '<p class="good"><b>Every check passed</b></p>'
    )
    skipped = skipped_sft(report.metrics)
    if skipped is not None:
        verdict += f'<p class="quiet">SFT {_text(skipped)}</p>'
    for remark in report.remarks:
        verdict += f'<p class="quiet">{_text(remark)}.</p>'
    for alarm in report.alarms:
        verdict += f'<p class="bad">Alarm: {_text(alarm)}.</p>'
    for fact in on_held_out_raters(report.metrics):
        verdict += f'<p class="quiet">Held-out raters: {_text(fact)}.</p>'
    verdict += _replies(report)
    rows = (
        (
            '<span class="good">passed</span>'
            if check.passed
            else '<span class="bad">failed</span>',
            _text(check.name),
            _number(check.value),
            _number(check.limit),
            _text(check.text),
        )
        for check in report.checks
    )
    return verdict + _table(("", "check", "value", "limit", "what it says"), rows)


def _replies(report: Report) -> str:
    """How long the replies of both policies are, and what else they look like."""
    rows = []
    for name, what in LOOKS.items():
        served, candidate = (report.metrics.get(f"{who}/{name}") for who in ("served", "candidate"))
        if served is not None and candidate is not None:
            rows.append((what, _number(served), _number(candidate)))
    return _table(("replies", "served", "candidate"), rows) if rows else ""


def _samples(report: Report) -> str:
    if not report.samples:
        return ""
    rows = ((_text(s.prompt), _text(s.served), _text(s.candidate)) for s in report.samples)
    return "<h4>Sample replies</h4>" + _table(("prompt", "served", "candidate"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; its cells are HTML already."""
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table class="table"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _mark(state: str) -> str:
    return f'<span class="{MARKS.get(state, "wait")}">{_text(state)}</span>'


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _when(time: str) -> str:
    return _text(time[:16].replace("T", " "))


def _text(value: object) -> str:
    return "" if value is None else html.escape(str(value))
