"""The documents are true: their commands, options, links and tables exist in the code."""

import ast
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from chat_app.commands.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMAND = typer.main.get_command(app)


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """Each call of a program that the page shows, in a fenced block or in backticks, as words."""
    text = page.read_text()
    lines = [
        line for kind, body in FENCE.findall(text) if kind != "text" for line in body.splitlines()
    ]
    lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line in lines:
        words = shlex.split(line.replace("&&", " && "), comments=True)
        for index, word in enumerate(words):
            if word.removeprefix(".venv/bin/") == program and words[index - 1 : index] in (
                [],
                ["&&"],
            ):
                yield words[index + 1 :]


def children(command: Any) -> dict[str, Any]:
    """The commands of a group; none of a command itself."""
    return getattr(command, "commands", {})


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, child in children(command).items():
        yield from leaves(child, (*path, name))
    if not children(command):
        yield path


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_make_target_in_a_page_exists(page: Path) -> None:
    used = {words[0] for words in commands(page, "make") if words}
    assert used <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_in_a_page_exists_with_its_options(page: Path) -> None:
    for words in commands(page, "feedback-chat"):
        command, rest = COMMAND, list(words)
        while children(command) and rest and not rest[0].startswith("-"):
            assert rest[0] in children(command), f"no command {words}"
            command = children(command)[rest.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, words


@pytest.mark.parametrize("path", list(leaves(COMMAND)), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    command = COMMAND
    for name in path:
        command = children(command)[name]
    assert command.help and command.help.strip().splitlines()[0] in result.output


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_between_pages_resolves(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        goal = (page.parent / file).resolve() if file else page
        assert goal.exists(), f"{relative(page)} links to {target}"
        assert not anchor or anchor in anchors(goal), f"{relative(page)} links to {target}"


def test_the_table_of_options_is_the_one_that_the_settings_give() -> None:
    render = runpy.run_path(str(ROOT / "docs" / "configuration.py"))["render"]
    assert (ROOT / "docs" / "configuration.md").read_text() == render(), (
        "renew it: .venv/bin/python docs/configuration.py > docs/configuration.md"
    )


def test_the_folders_in_the_architecture_page_are_the_folders() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"^\| `((?:chat_app|feedback_store|rlhf_core)/[\w/]*)` \|", text, re.M))
    packages = ("chat_app", "feedback_store", "rlhf_core")
    there = {
        f"{relative(path.parent)}/"
        for name in packages
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert named == there


def test_the_short_pages_stay_short() -> None:
    limits = {"README.md": 150, "CONTRIBUTING.md": 80}
    limits |= {relative(page): 40 for page in (ROOT / "docs" / "decisions").glob("*.md")}
    long = {
        name
        for name, limit in limits.items()
        if len((ROOT / name).read_text().splitlines()) > limit
    }
    assert not long


# Of the glossary's words to avoid, those that mean nothing else in this code.
AVOIDED = {"actor", "agent", "delta", "deploy", "experience", "job", "query", "rating"}


def public_names(path: Path) -> Iterator[str]:
    """Functions and classes of a module, methods included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def words_of(name: str) -> set[str]:
    """``RewardModel`` and ``reward_model`` both as ``{"reward", "model"}``."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def test_names_use_the_words_of_the_glossary() -> None:
    rows = re.findall(r"^\| \*\*.+\|(.*)\|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert {word.strip() for row in rows for word in row.split(",")} >= AVOIDED
    strays = {
        f"{relative(path)}: {name}"
        for package in ("chat_app", "feedback_store", "rlhf_core")
        for path in (ROOT / package).rglob("*.py")
        for name in public_names(path)
        if words_of(name) & AVOIDED
    }
    assert not strays
