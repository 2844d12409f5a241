import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as XML

import pytest

from rlhf_core.reproduction.claims import Figure, Found, decide, load_claims, skipped
from rlhf_core.reproduction.plots import LETTERS, Cross, intervals, lines, plane
from rlhf_core.reproduction.profiles import CI
from rlhf_core.reproduction.report import write_report
from rlhf_core.reproduction.run import Reproduction


@pytest.fixture
def found() -> Reproduction:
    claims = load_claims()
    figures = {bar.figure: Figure(0.9, 0.82, 0.95) for bar in claims[0].bars}
    curves = {"a <b>": [(0.0, 1.0), (1.0, 2.0)], "b": [(0.5, 0.5)]}
    ratio = {"ratio": Figure(float("nan"), None, None, "nothing <i>to</i> divide")}
    results = [
        decide(claims[0], Found(figures, ["a & b"], curves, ("x", "y"))),
        *(skipped(claim, "not asked for") for claim in claims[1:3]),
        decide(claims[3], Found(ratio)),
        *(skipped(claim, "not asked for") for claim in claims[4:]),
    ]
    return Reproduction(
        CI,
        (101,),
        "f" * 64,
        False,
        "2026-01-01T00:00:00+00:00",
        {},
        {"base": 166_000},
        tuple(results),
    )


def test_every_form_has_every_claim_and_says_first_what_is_not_met(
    found: Reproduction, tmp_path: Path
) -> None:
    write_report(found, tmp_path)
    facts = json.loads((tmp_path / "result.json").read_text())
    assert [claim["number"] for claim in facts["claims"]] == list(range(1, 15))
    assert facts["first"][0] == "not met: 4"
    assert facts["claims"][3]["figures"]["ratio"]["value"] is None  # NaN is no JSON
    assert facts["claims"][1]["why"] == "not asked for"
    summary = (tmp_path / "summary.md").read_text()
    assert all(f"| {n}. " in summary for n in range(1, 15))
    assert "not met: 4" in summary.splitlines()[2]


def test_the_summary_has_each_figure_that_a_bar_is_about_near_enough_to_tell_it_from_the_bar(
    found: Reproduction, tmp_path: Path
) -> None:
    figures = found.results[0].found.figures | {"win rate": Figure(0.8494, 0.811, 0.877)}  # type: ignore[union-attr]
    first = decide(load_claims()[0], Found(figures))
    write_report(replace(found, results=(first, *found.results[1:])), tmp_path)
    row = next(r for r in (tmp_path / "summary.md").read_text().splitlines() if "| 1. " in r)
    assert "win rate 0.849 (0.811 to 0.877)" in row and "not met: win rate" in row
    assert all(f"{bar.figure} 0." in row for bar in first.claim.bars)


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows(
    found: Reproduction, tmp_path: Path
) -> None:
    write_report(found, tmp_path)
    page = (tmp_path / "index.html").read_text()
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}

    Reader().feed(page)
    assert tags.count("h2") == 14 and tags.count("svg") == 2
    assert not {"script", "b", "i", "link", "img"} & set(tags)
    assert "a &amp; b" in page and "never quoted" in page


def test_the_world_and_the_sizes_stand_with_the_figures(
    found: Reproduction, tmp_path: Path
) -> None:
    write_report(found, tmp_path)
    said = "synthetic small world, 0.17M parameters"
    facts = json.loads((tmp_path / "result.json").read_text())
    assert any(said in line for line in facts["first"])
    heading = next(
        row for row in (tmp_path / "summary.md").read_text().splitlines() if "| claim" in row
    )
    assert said in heading
    page = (tmp_path / "index.html").read_text()
    assert page.count(f"<caption>{said}</caption>") == 2  # a table each of two measured claims


def test_a_figure_without_an_interval_is_not_plotted() -> None:
    assert intervals({"x": Figure(1.0)}, "title") == ""


def test_figures_of_each_unit_have_a_plot_and_an_axis_of_their_own(
    found: Reproduction, tmp_path: Path
) -> None:
    shares = {bar.figure: Figure(0.9, 0.82, 0.95) for bar in load_claims()[0].bars}
    others = {
        "gold": Figure(4.0, 3.0, 5.0, unit="gold reward"),
        "rating": Figure(120.0, 80.0, 160.0, unit="Elo"),
        "distance": Figure(2.0, unit="nats"),  # without an interval it has no plot
    }
    first = decide(load_claims()[0], Found(shares | others))
    write_report(replace(found, results=(first, *found.results[1:])), tmp_path)
    drawn = [
        part.split("</svg>")[0] for part in (tmp_path / "index.html").read_text().split("<svg")[1:]
    ]
    assert len(drawn) == 3
    assert [">0.9<" in svg for svg in drawn] == [True, False, False]
    assert [">gold reward</text>" in svg for svg in drawn] == [False, True, False]
    assert [">Elo</text>" in svg for svg in drawn] == [False, False, True]
    facts = json.loads((tmp_path / "result.json").read_text())["claims"][0]["figures"]
    assert facts["rating"]["unit"] == "Elo"


def test_a_long_name_beside_an_interval_takes_several_lines_and_pushes_the_next_down() -> None:
    name = "loss of a reward model, pairs by the policy that the last round began with"
    drawn = XML.fromstring(
        intervals({name: Figure(0.5, 0.4, 0.6), "next": Figure(0.5, 0.4, 0.6)}, "")
    )
    named = [text for text in drawn.iter() if text.get("text-anchor") == "end"]
    assert " ".join(text.text or "" for text in named) == f"{name} next"
    assert len(named) == 3 and max(len(text.text or "") for text in named) <= LETTERS
    places = [float(text.get("y", "")) for text in named]
    assert places == sorted(places) and places[1] - places[0] < places[2] - places[1]


def test_a_plot_of_one_point_or_of_equal_values_is_drawn() -> None:
    assert "<circle" in lines({"x": [(1.0, 1.0)]}, ("a", "b"), "title")
    assert "<circle" in intervals({"x": Figure(0.0, 0.0, 0.0)}, "title")


def test_a_plane_has_both_intervals_of_each_point_and_joins_those_that_belong_together() -> None:
    figure = Figure(0.6, 0.5, 0.7)
    crosses = [Cross("a", figure, figure), Cross("b", figure, figure, joined=False)]
    drawn = plane([*crosses, Cross("c", Figure(0.5), figure)], ("x", "y"), "title")
    bare = plane([Cross("a", Figure(0.5), Figure(0.5))], ("x", "y"), "title")
    assert drawn.count("<circle") == 3 and drawn.count('fill="none"') == 1
    assert drawn.count('stroke-width="2"') == 1  # from a to c
    assert "<circle" in bare
