"""The claims and their bars, as `claims.toml` fixes them before a run, and what was found of each.

Invariant: a verdict follows from the figures and the file alone. A claim that was not measured is
in the result, too, with the reason.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from rlhf_core.errors import InvalidInputError

FILE = "claims.toml"
Bound = Literal["value", "low", "high"]
Kind = Literal["bar", "reported"]
Decision = Literal["met", "not met", "reported", "skipped"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, with its 95% interval if it has one.

    ``unit``, such as ``Elo``, names the axis that its interval is drawn on; without one it is that
    of shares, of their differences and of ratios.
    """

    value: float
    low: float | None = None
    high: float | None = None
    about: str = ""
    unit: str = ""


Figures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Bar:
    """What one number of one figure must be; all limits that are given must hold."""

    figure: str
    bound: Bound
    at_least: float = -float("inf")
    at_most: float = float("inf")
    above: float = -float("inf")
    below: float = float("inf")

    def holds(self, figures: Figures) -> bool:
        """Whether the measured figure meets it; a number that could not be computed does not."""
        number = getattr(figures[self.figure], self.bound)
        if number is None or number != number:  # NaN
            return False
        return bool(
            self.at_least <= number <= self.at_most
            and (self.above < number or self.above == -float("inf"))
            and (number < self.below or self.below == float("inf"))
        )

    def __str__(self) -> str:
        limits = {"≥": self.at_least, "≤": self.at_most, ">": self.above, "<": self.below}
        said = " and ".join(f"{sign} {n:g}" for sign, n in limits.items() if abs(n) != float("inf"))
        return f"{self.figure}{'' if self.bound == 'value' else f' ({self.bound})'} {said}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of the paper, how the miniature measures it, and its bars."""

    number: int
    title: str
    paper: str
    metric: str
    kind: Kind
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What measuring a claim gave: its figures, the most important first, and remarks.

    ``curves`` are lines to plot: by name, points of (x, y).
    """

    figures: Figures
    remarks: Sequence[str] = ()
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    axes: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """A claim with its verdict; ``why`` says why it was skipped, or which bars do not hold."""

    claim: Claim
    decision: Decision
    found: Found | None
    why: str = ""


def decide(claim: Claim, found: Found) -> ClaimResult:
    """The verdict on a measured claim.

    Raises:
        InvalidInputError: A bar names a figure that was not measured.
    """
    missing = {bar.figure for bar in claim.bars} - found.figures.keys()
    if missing:
        raise InvalidInputError(f"claim {claim.number} lacks the figures {sorted(missing)}")
    if claim.kind == "reported":
        return ClaimResult(claim, "reported", found)
    failed = [str(bar) for bar in claim.bars if not bar.holds(found.figures)]
    return ClaimResult(claim, "not met" if failed else "met", found, "; ".join(failed))


def skipped(claim: Claim, why: str) -> ClaimResult:
    """A claim that was not measured, and why."""
    return ClaimResult(claim, "skipped", None, why)


def claims_text() -> str:
    """The file of claims as it is."""
    return resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")


def claims_hash(text: str) -> str:
    """SHA-256 of a file of claims; every result states it."""
    return hashlib.sha256(text.encode()).hexdigest()


def load_claims(text: str | None = None) -> list[Claim]:
    """All claims in the order of the file, or of its text as it was read before."""
    rows: list[dict[str, Any]] = tomllib.loads(text or claims_text())["claim"]
    return [Claim(**(row | {"bars": tuple(Bar(**bar) for bar in row["bars"])})) for row in rows]


def chosen_claims(text: str | None, claims: Sequence[Claim]) -> list[int]:
    """The numbers that an option such as `3,7` names; all without it.

    Raises:
        InvalidInputError: It names no claim.
    """
    known = {claim.number for claim in claims}
    if text is None:
        return sorted(known)
    words = [word.strip() for word in text.split(",") if word.strip()]
    wrong = [word for word in words if not word.isdigit() or int(word) not in known]
    if wrong or not words:
        raise InvalidInputError(
            f"claims cannot be {text!r}; use numbers from 1 to {max(known)}, such as 1,5"
        )
    return sorted({int(word) for word in words})
