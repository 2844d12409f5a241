"""The metadata agrees with the code: each dependency earns its place, and the set is pinned."""

import ast
import re
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("chat_app", "feedback_store", "rlhf_core")
# Used without an import of ours; the reason for each stands in README.md.
UNSEEN = {"accelerate", "pysqlite3", "bitsandbytes"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {
        normal(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements
    }


DIRECT = names(PROJECT["dependencies"])


def imported_distributions() -> set[str]:
    modules: set[str] = set()
    for path in (path for name in PACKAGES for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    owners = packages_distributions()
    return {normal(owner) for module in modules for owner in owners.get(module, ())}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        normal(name): pinned
        for name, _, pinned in (line.partition("==") for line in lines if not line.startswith("#"))
    }


def test_every_dependency_is_used() -> None:
    assert not DIRECT - imported_distributions() - UNSEEN


def test_every_import_is_a_declared_dependency() -> None:
    assert not imported_distributions() - DIRECT - {"feedback-chat"}


@pytest.mark.parametrize("group", ["dependencies", "dev"])
def test_every_dependency_is_pinned(group: str) -> None:
    wanted = PROJECT[group] if group == "dependencies" else PROJECT["optional-dependencies"][group]
    assert not names(wanted) - pins().keys()


def test_the_pins_name_versions_only() -> None:
    assert not [pin for pin in pins().values() if not re.fullmatch(r"\d[\w.]*", pin)]


@pytest.mark.parametrize("name", ["torch", "trl", "transformers"])
def test_what_is_tested_is_what_is_pinned(name: str) -> None:
    assert version(name).partition("+")[0] == pins()[name]
