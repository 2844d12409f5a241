"""Plots as SVG for a page without scripts: figures with their intervals, and lines.

Colours follow the text, so that they work on a light and a dark page. Lines differ by their dashes
and have their names beside them. Nothing here is interactive.
"""

import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as XML

from rlhf_core.reproduction.claims import Figure, Figures

WIDTH, ROW, LEFT, HEIGHT, EDGE, SIDE = 760, 22, 330, 300, 40, 440  # pixels
LETTERS, LINE = 52, 14  # of a name beside an interval: letters in a line, pixels between lines
DASHES = ("", "6 3", "2 3", "8 3 2 3")
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Cross:
    """A point whose both coordinates have intervals; `joined` ones have a line between them."""

    name: str
    x: Figure
    y: Figure
    joined: bool = True


def intervals(figures: Figures, title: str, unit: str = "") -> str:
    """Each figure that has an interval, as a dot on a line; all share one axis, of this unit."""
    shown = {
        name: (figure.low, figure.value, figure.high)
        for name, figure in figures.items()
        if figure.low is not None and figure.high is not None and math.isfinite(figure.value)
    }
    if not shown:
        return ""
    numbers = [n for row in shown.values() for n in row if math.isfinite(n)]
    low, high = _padded(min(numbers), max(numbers))
    at = _scale(low, high, LEFT, WIDTH - 20)
    names = [textwrap.wrap(name, LETTERS) for name in shown]
    heights = [ROW + LINE * (len(said) - 1) for said in names]
    bottom = sum(heights)
    svg = _svg(title, bottom + EDGE)
    for tick in _ticks(low, high):
        _line(svg, (at(tick), 0), (at(tick), bottom), opacity=".2")
        _text(svg, at(tick), bottom + 18, f"{tick:g}", anchor="middle")
    _text(svg, (LEFT + WIDTH - 20) / 2, bottom + 34, unit, anchor="middle")
    tops = itertools.accumulate(heights, initial=0)
    for top, height, said, row in zip(tops, heights, names, shown.values(), strict=False):
        y = top + height / 2
        start, middle, end = (at(min(max(n, low), high)) for n in row)
        for place, line in enumerate(said):
            _text(svg, LEFT - 10, top + ROW / 2 + LINE * place + 4, line, anchor="end")
        _line(svg, (start, y), (end, y), width="2")
        XML.SubElement(svg, "circle", cx=f"{middle:.1f}", cy=f"{y:.1f}", r="4", fill="currentColor")
    return XML.tostring(svg, encoding="unicode")


def lines(curves: Mapping[str, Points], axes: tuple[str, str], title: str) -> str:
    """Curves through their points, with the names of the axes; a single point is a dot."""
    xs, ys = ([point[i] for points in curves.values() for point in points] for i in (0, 1))
    (left, right), (low, high) = _padded(min(xs), max(xs)), _padded(min(ys), max(ys))
    x_at = _scale(left, right, 60, WIDTH - 180)
    y_at = _scale(low, high, HEIGHT - EDGE, 10)
    svg = _svg(title, HEIGHT)
    for tick in _ticks(left, right):
        _text(svg, x_at(tick), HEIGHT - EDGE + 16, f"{tick:g}", anchor="middle")
    for tick in _ticks(low, high):
        _line(svg, (60, y_at(tick)), (WIDTH - 180, y_at(tick)), opacity=".2")
        _text(svg, 54, y_at(tick) + 4, f"{tick:g}", anchor="end")
    _text(svg, WIDTH / 2 - 60, HEIGHT - 6, f"{axes[0]} (up: {axes[1]})", anchor="middle")
    named: list[tuple[float, float]] = []
    for (name, points), dash in zip(curves.items(), itertools.cycle(DASHES), strict=False):
        places = [(x_at(x), y_at(y)) for x, y in points]
        for start, end in itertools.pairwise(places):
            _line(svg, start, end, width="2", dash=dash)
        for x, y in places:
            XML.SubElement(svg, "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3", fill="currentColor")
        named.append(_free(named, places[-1][0] + 8, places[-1][1] + 4))
        _text(svg, *named[-1], name)
    return XML.tostring(svg, encoding="unicode")


def plane(crosses: Sequence[Cross], axes: tuple[str, str], title: str) -> str:
    """Points with both their intervals; a hollow one is not joined to those before and after it."""
    (x_at, x_ticks), (y_at, y_ticks) = (
        _axis([one.x for one in crosses], 60, SIDE - 60),
        _axis([one.y for one in crosses], SIDE - EDGE, 10),
    )
    svg = _svg(title, SIDE, width=SIDE)
    for tick in x_ticks:
        _line(svg, (x_at(tick), 10), (x_at(tick), SIDE - EDGE), opacity=".2")
        _text(svg, x_at(tick), SIDE - EDGE + 16, f"{tick:g}", anchor="middle")
    for tick in y_ticks:
        _line(svg, (60, y_at(tick)), (SIDE - 60, y_at(tick)), opacity=".2")
        _text(svg, 54, y_at(tick) + 4, f"{tick:g}", anchor="end")
    _text(svg, SIDE / 2, SIDE - 6, f"{axes[0]} (up: {axes[1]})", anchor="middle")
    named: list[tuple[float, float]] = []
    for one in crosses:
        at = x_at(one.x.value), y_at(one.y.value)
        _line(svg, (x_at(_low(one.x)), at[1]), (x_at(_high(one.x)), at[1]))
        _line(svg, (at[0], y_at(_low(one.y))), (at[0], y_at(_high(one.y))))
        look = {"fill": "currentColor" if one.joined else "none", "stroke": "currentColor"}
        XML.SubElement(svg, "circle", {"cx": f"{at[0]:.1f}", "cy": f"{at[1]:.1f}", "r": "5"} | look)
        named.append(_free(named, at[0] + 8, at[1] - 8))
        _text(svg, *named[-1], one.name)
    joined = [(x_at(one.x.value), y_at(one.y.value)) for one in crosses if one.joined]
    for start, end in itertools.pairwise(joined):
        _line(svg, start, end, width="2")
    return XML.tostring(svg, encoding="unicode")


def _free(named: Sequence[tuple[float, float]], x: float, y: float) -> tuple[float, float]:
    """The place of a name, moved up until it covers none of those that are there."""
    while any(abs(x - left) < 60 and abs(y - top) < 13 for left, top in named):
        y -= 13
    return x, y


def _axis(
    figures: Sequence[Figure], start: float, end: float
) -> tuple[Callable[[float], float], list[float]]:
    """Where numbers are on an axis that all intervals fit on, and its ticks."""
    low, high = _padded(min(map(_low, figures)), max(map(_high, figures)))
    return _scale(low, high, start, end), list(_ticks(low, high))


def _low(figure: Figure) -> float:
    return figure.value if figure.low is None else figure.low


def _high(figure: Figure) -> float:
    return figure.value if figure.high is None else figure.high


def _svg(title: str, height: float, *, width: float = WIDTH) -> XML.Element:
    svg = XML.Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height:.0f}",
        width=str(width),
        role="img",
    )
    XML.SubElement(svg, "title").text = title
    return svg


def _line(
    svg: XML.Element,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    width: str = "1",
    opacity: str = "1",
    dash: str = "",
) -> None:
    (x1, y1), (x2, y2) = start, end
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    look = {"stroke": "currentColor", "stroke-width": width, "stroke-opacity": opacity}
    if dash:
        look["stroke-dasharray"] = dash
    XML.SubElement(svg, "line", {name: f"{n:.1f}" for name, n in places.items()} | look)


def _text(svg: XML.Element, x: float, y: float, said: str, *, anchor: str = "start") -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    XML.SubElement(svg, "text", place | {"font-size": "12", "fill": "currentColor"}).text = said


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.05 or 0.5
    return low - room, high + room


def _ticks(low: float, high: float) -> Iterator[float]:
    """About five round numbers between the ends."""
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    number = math.ceil(low / step)
    while number * step <= high:
        yield round(number * step, 10)
        number += 1
