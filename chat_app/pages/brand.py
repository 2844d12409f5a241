"""What makes the pages an operator's own: name, logo, colour, texts.

Invariant: whatever colour an operator chooses, text in it can be read: it is made darker on the
light page and lighter on the dark one until the contrast is 4.5 to 1, as WCAG 2.2 asks (1.4.3).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat_app.settings import BrandSettings

Colour = tuple[float, float, float]  # red, green, blue, from 0 to 1

LIGHT, DARK = (1.0, 1.0, 1.0), (0.055, 0.078, 0.106)  # the lightest and the darkest background
CONTRAST = 4.5
STEP = 0.04
KINDS = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def texts_of(brand: BrandSettings) -> dict[str, Any]:
    """What the pages' scripts show; what an operator leaves out is None."""
    return {
        "name": brand.name,
        "welcome": brand.welcome,
        "about": brand.about,
        "examples": brand.examples or None,
        "notice": brand.notice,
        "policy": brand.policy,
    }


def style_of(brand: BrandSettings) -> str:
    """A style sheet with the operator's colour, over the one that we have."""
    if brand.accent is None:
        return ""
    chosen = _parsed(brand.accent)
    light = _readable(chosen, on=LIGHT, towards=lambda part: part * (1 - STEP))
    dark = _readable(chosen, on=DARK, towards=lambda part: part + (1 - part) * STEP)
    return (
        f":root {{ --accent: {_written(light)}; --on-accent: #ffffff;"
        f" --accent-soft: {_written(_mixed(light, LIGHT))}; }}\n"
        "@media (prefers-color-scheme: dark) {"
        f" :root {{ --accent: {_written(dark)}; --on-accent: #0e141b;"
        f" --accent-soft: {_written(_mixed(dark, DARK))}; }} }}\n"
    )


def logo_of(brand: BrandSettings) -> tuple[bytes, str] | None:
    """The operator's logo and its kind; None where there is none."""
    if brand.logo is None:
        return None
    return Path(brand.logo).read_bytes(), KINDS[brand.logo.suffix.lower()]


def contrast(one: Colour, other: Colour) -> float:
    """The contrast of two colours, from 1 to 21 (WCAG 2.2, "contrast ratio")."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Colour) -> float:
    """How light a colour is, from 0 to 1 (WCAG 2.2, "relative luminance")."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _readable(colour: Colour, *, on: Colour, towards: Callable[[float], float]) -> Colour:
    while contrast(colour, on) < CONTRAST:
        red, green, blue = (towards(part) for part in colour)
        colour = (red, green, blue)
    return colour


def _mixed(colour: Colour, background: Colour, share: float = 0.14) -> Colour:
    red, green, blue = (
        share * part + (1 - share) * other for part, other in zip(colour, background, strict=True)
    )
    return red, green, blue


def _parsed(written: str) -> Colour:
    red, green, blue = (int(written[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _written(colour: Colour) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)
