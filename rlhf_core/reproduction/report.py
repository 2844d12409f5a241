"""A finished reproduction as JSON, as Markdown and as a page of its own with plots.

Invariants: every claim of the file is in each of them; which bars do not hold stands in the first
lines; figures of the profile `ci` are marked as not to be quoted.
"""

import html
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlhf_core.reproduction.claims import ClaimResult, Figure
from rlhf_core.reproduction.plots import intervals, lines
from rlhf_core.reproduction.run import Reproduction

JSON, MARKDOWN, PAGE = "result.json", "summary.md", "index.html"
NOT_QUOTED = (
    "Numbers of the profile ci are never quoted: it shows that the code runs, and directions."
)
SYNTHETIC = "All labelers are simulated; no figure here is about people."
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } table { border-collapse: collapse } .wide { overflow-x: auto }
td, th { padding: .2rem .7rem; text-align: start; border-bottom: 1px solid #8884 }
td.number { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap }
td:last-child { min-width: 12rem } body { overflow-wrap: break-word }
.verdict { font-weight: 700 } .quiet { opacity: .75 } svg { max-width: 100%; height: auto }
:root { color-scheme: light dark }
"""


def write_report(found: Reproduction, directory: Path) -> None:
    """Write all three files."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / JSON).write_text(json.dumps(as_facts(found), indent=1) + "\n")
    (directory / MARKDOWN).write_text(markdown(found))
    (directory / PAGE).write_text(page(found), encoding="utf-8")


def as_facts(found: Reproduction) -> dict[str, Any]:
    """The result as JSON takes it; numbers that could not be computed are null."""
    return {
        "profile": asdict(found.profile),
        "seeds": list(found.seeds),
        "claims_sha256": found.claims_sha256,
        "bars_changed": found.bars_changed,
        "started": found.started,
        "cpu_seconds": found.cpu_seconds,
        "parameters": found.parameters,
        "first": headline(found),
        "claims": [_claim_facts(result) for result in found.results],
    }


def headline(found: Reproduction) -> list[str]:
    """The first lines of every form: what does not hold, what was left out, what to beware of."""
    numbers = {
        decision: [r.claim.number for r in found.results if r.decision == decision]
        for decision in ("not met", "met", "reported", "skipped")
    }
    said = [f"{name}: {_listed(those)}" for name, those in numbers.items()]
    warnings = [f"Seeds {_listed(found.seeds)}. All figures: {world_and_sizes(found)}.", SYNTHETIC]
    if found.profile.name == "ci":
        warnings.insert(0, NOT_QUOTED)
    if found.bars_changed:
        warnings.insert(
            0, "The file of claims is not the one of when this run began: bars prove nothing."
        )
    return said + warnings


def world_and_sizes(found: Reproduction) -> str:
    """What has to stand beside every figure: of which world and of how large models it is."""
    sizes = sorted(set(found.parameters.values()))
    return f"synthetic small world, {' and '.join(f'{n / 1e6:.2f}M' for n in sizes)} parameters"


def markdown(found: Reproduction) -> str:
    """A summary: a line for each claim, and the figures that its bars are about."""
    rows = [
        f"| claim | paper | found ({world_and_sizes(found)}) | bars | verdict |",
        "|---|---|---|---|---|",
        *(
            f"| {r.claim.number}. {r.claim.title} | {r.claim.paper} | {_judged(r)} | "
            f"{'; '.join(map(str, r.claim.bars)) or 'none'} | {_verdict(r)} |"
            for r in found.results
        ),
    ]
    title = f"# InstructGPT in miniature, profile {found.profile.name}"
    bars = f"Bars: `claims.toml`, SHA-256 `{found.claims_sha256}`; run begun {found.started}."
    return "\n".join(
        [title, "", *(f"- {line}" for line in headline(found)), "", bars, "", *rows, ""]
    )


def page(found: Reproduction) -> str:
    """One HTML file that needs nothing else: no script, nothing from another address."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>InstructGPT in miniature: {found.profile.name}</title><style>{STYLE}</style>",
        f"<h1>InstructGPT in miniature, profile {found.profile.name}</h1><ul>",
        *(f"<li>{html.escape(line)}" for line in headline(found)),
        f"</ul><p class='quiet'>Bars: claims.toml, SHA-256 {found.claims_sha256}. ",
        f"Run begun {html.escape(found.started)}; ",
        f"stages took {sum(found.cpu_seconds.values()):.0f} s of one processor.</p>",
        *(part for r in found.results for part in _section(r, world_and_sizes(found))),
    ]
    return "\n".join(parts) + "\n"


def _section(result: ClaimResult, sizes: str) -> Iterator[str]:
    claim = result.claim
    yield f"<h2>{claim.number}. {html.escape(claim.title)}</h2>"
    yield f"<p class='verdict'>{html.escape(_verdict(result))}</p>"
    yield f"<p>Paper: {html.escape(claim.paper)}<br>Here: {html.escape(claim.metric)}<br>"
    yield f"Bars: {html.escape('; '.join(map(str, claim.bars)) or 'none')}</p>"
    if result.found is None:
        return
    yield from (f"<p>{html.escape(remark)}</p>" for remark in result.found.remarks)
    for unit in dict.fromkeys(figure.unit for figure in result.found.figures.values()):
        alike = {name: f for name, f in result.found.figures.items() if f.unit == unit}
        yield intervals(alike, "; ".join(filter(None, (claim.title, unit, sizes))), unit)
    if result.found.curves:
        yield lines(result.found.curves, result.found.axes, f"{claim.title}; {sizes}")
    yield f"<div class='wide'><table><caption>{sizes}</caption>"
    yield "<tr><th>figure<th>value<th>95%<th>"
    for name, figure in result.found.figures.items():
        yield f"<tr><th>{html.escape(name)}<td class='number'>{figure.value:.3f}"
        yield f"<td class='number'>{_interval(figure)}<td>{html.escape(figure.about)}"
    yield "</table></div>"


def _claim_facts(result: ClaimResult) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "number": result.claim.number,
        "title": result.claim.title,
        "paper": result.claim.paper,
        "kind": result.claim.kind,
        "bars": [str(bar) for bar in result.claim.bars],
        "verdict": result.decision,
        "why": result.why,
    }
    if result.found is not None:
        figures = {name: asdict(figure) for name, figure in result.found.figures.items()}
        facts["figures"] = {
            name: {key: _plain(value) for key, value in figure.items()}
            for name, figure in figures.items()
        }
        facts["remarks"] = list(result.found.remarks)
        facts["curves"] = {
            name: [[_plain(x), _plain(y)] for x, y in points]
            for name, points in result.found.curves.items()
        }
    return facts


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    finite = not isinstance(value, float) or abs(value) < float("inf")
    return value if finite and value == value else None


def _listed(numbers: Any) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _verdict(result: ClaimResult) -> str:
    return f"{result.decision}: {result.why}" if result.why else result.decision


def _judged(result: ClaimResult) -> str:
    """The figures that bars are about, or the first if there are no bars."""
    if result.found is None:
        return ""
    figures = result.found.figures
    names = dict.fromkeys(bar.figure for bar in result.claim.bars) or [next(iter(figures))]
    return "; ".join(_with_interval(name, figures[name]) for name in names)


def _with_interval(name: str, figure: Figure) -> str:
    interval = f" ({_interval(figure)})" if figure.low is not None else ""
    return f"{name} {figure.value:.3f}{interval}"


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{figure.low:.3f} to {figure.high:.3f}"
