"""The changelog's top entry is the version that is built."""

import re
from datetime import date
from pathlib import Path

import chat_app

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


def entries() -> list[tuple[str, str]]:
    return ENTRY.findall((ROOT / "CHANGELOG.md").read_text())


def test_the_version_is_the_top_entry() -> None:
    assert entries()[0][0] == chat_app.__version__


def test_versions_and_dates_fall_from_top_to_bottom() -> None:
    keys = [
        (tuple(map(int, version.split("."))), date.fromisoformat(day)) for version, day in entries()
    ]
    assert keys == sorted(keys, reverse=True)


def test_unreleased_changes_have_a_place_above_the_releases() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.index("## [Unreleased]") < text.index(f"## [{entries()[0][0]}]")
