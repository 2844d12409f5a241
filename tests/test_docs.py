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
from feedback_store.records import ALARM_KINDS

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


def command_at(path: tuple[str, ...]) -> Any:
    command = COMMAND
    for name in path:
        command = children(command)[name]
    return command


def test_every_make_target_in_a_page_exists() -> None:
    used = {words[0] for page in PAGES for words in commands(page, "make") if words}
    assert used <= TARGETS


def test_every_command_in_a_page_exists_with_its_options() -> None:
    for page in PAGES:
        for words in commands(page, "feedback-chat"):
            command, rest = COMMAND, list(words)
            while children(command) and rest and not rest[0].startswith("-"):
                assert rest[0] in children(command), f"{relative(page)}: no command {words}"
                command = children(command)[rest.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts}
            used = {word.partition("=")[0] for word in rest if word.startswith("--")}
            assert used <= known | {"--help"}, f"{relative(page)}: {words}"


@pytest.mark.parametrize("path", list(leaves(COMMAND)), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    command = command_at(path)
    assert command.help and command.help.strip().splitlines()[0] in result.output


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_between_pages_resolves() -> None:
    broken = []
    for page in PAGES:
        for target in LINK.findall(FENCE.sub("", page.read_text())):
            file, _, anchor = target.partition("#")
            goal = (page.parent / file).resolve() if file else page
            if target.startswith(("http://", "https://", "mailto:")):
                continue
            if not goal.exists() or (anchor and anchor not in anchors(goal)):
                broken.append(f"{relative(page)} links to {target}")
    assert not broken


# The rules below hold a page to the code as it is. The changelog tells of names that were.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
CODE = ("chat_app", "feedback_store", "rlhf_core", "benchmarks", "tests")
SOURCES = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
QUOTED = re.compile(r"`([^`\n]+)`")
FILE = re.compile(
    r"(?<![\w/.-])(?:(?:chat_app|feedback_store|rlhf_core|tests|benchmarks|docs)/[\w./*-]*"
    r"|[\w*-]+\.(?:py|md|txt)\b)"
)
NAME = re.compile(r"(?<![\\\w])[A-Za-z_]\w*")
METRIC = re.compile(r"(?<![\w/.-])([a-z_]+/)([a-z_]+)(?![\w/.-])")
OPTION = re.compile(r"(?<!\w)--[a-z][\w-]*")
# Of other projects: data sets and who made them, a function of PEFT, an option of accelerate.
OTHERS = {"HuggingFaceH4", "OpenAssistant", "chatbot_arena_conversations", "config_file"}
OTHERS |= {"hotswap_adapter", "next_question", "ultrafeedback_binarized"}
OTHERS |= {"ENABLE_FORWARD_USER_INFO_HEADERS", "FORWARD_USER_INFO_HEADER_JWT_SECRET", "WEBUI_AUTH"}
OTHERS |= {"dropParams"}


def documented(tree: ast.AST) -> dict[int, str]:
    """The docstrings in a tree, by the identity of their nodes."""
    owners = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {
        id(node.body[0].value): ast.get_docstring(node) or ""
        for node in ast.walk(tree)
        if isinstance(node, owners) and ast.get_docstring(node) is not None
        if isinstance(node.body[0], ast.Expr)
    }


def read_sources() -> tuple[set[str], list[tuple[str, str]]]:
    """Every name and string of the code, and every docstring with its file."""
    code, docstrings = [], []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        said = documented(tree)
        docstrings += [(relative(path), text) for text in said.values()]
        if path != Path(__file__):
            for node in (node for node in ast.walk(tree) if id(node) not in said):
                for _, value in ast.iter_fields(node):
                    code += value if isinstance(value, list) else [value]
    files = ("pyproject.toml", "Makefile", "Dockerfile", "deploy/prometheus/rules.yml")
    files += ("deploy/grafana/feedback-chat.json",)
    code += [(ROOT / name).read_text() for name in files]
    return {text for text in code if isinstance(text, str)}, docstrings


STRINGS, DOCSTRINGS = read_sources()
TEXT = "\n".join(STRINGS)
WORDS = {*re.findall(r"\w+", TEXT), *OTHERS}
WORDS |= {f"feedback_chat_{word}" for word in WORDS}  # every metric begins so


def is_there(file: str) -> bool:
    """Whether a path from the root exists, or a file of that name or with that end anywhere."""
    name = file.rstrip("/")
    ends = (f"{folder}/**/{name}" for folder in (*CODE, "docs"))
    return any(True for pattern in (name, *ends) for _ in ROOT.glob(pattern))


def names_in(quoted: str) -> set[str]:
    """What looks like a name of code: words with an underscore inside, or in CamelCase."""
    names = NAME.findall(OPTION.sub(" ", FILE.sub(" ", quoted)))
    return {n for n in names if "_" in n.strip("_") or re.search("[a-z][A-Z]", n)}


def test_every_file_that_a_page_names_is_there() -> None:
    strays = {
        f"{relative(page)}: {file}"
        for page in PRESENT
        for file in FILE.findall(page.read_text())
        if not is_there(file)
    }
    assert not strays


def test_every_name_in_backticks_is_one_of_the_code() -> None:
    strays = {
        f"{relative(page)}: {name}"
        for page in PRESENT
        for quoted in QUOTED.findall(FENCE.sub("", page.read_text()))
        for name in names_in(quoted) - WORDS
    }
    assert not strays


def test_every_metric_in_backticks_is_one_of_the_code() -> None:
    strays = {
        f"{relative(page)}: {group}{name}"
        for page in PRESENT
        for quoted in QUOTED.findall(FENCE.sub("", page.read_text()))
        for group, name in METRIC.findall(FILE.sub(" ", quoted))
        if f"{group}{name}" not in TEXT and not {group, name} <= STRINGS  # f"group/{x}"
        if name not in OTHERS
    }
    assert not strays


def test_every_option_in_backticks_is_one_of_the_code() -> None:
    known = {o for path in leaves(COMMAND) for p in command_at(path).params for o in p.opts}
    strays = {
        f"{relative(page)}: {option}"
        for page in PRESENT
        for quoted in QUOTED.findall(FENCE.sub("", page.read_text()))
        for option in OPTION.findall(quoted)
        if option not in known | {"--help"} and option not in TEXT and option[2:] not in OTHERS
    }
    assert not strays


def test_every_file_and_name_in_a_docstring_is_there() -> None:
    strays = set()
    for place, text in DOCSTRINGS:
        for quoted in re.findall(r"`+([^`\n]+)`+", text):
            strays |= {f"{place}: {file}" for file in FILE.findall(quoted) if not is_there(file)}
            strays |= {f"{place}: {name}" for name in names_in(quoted) - WORDS}
    assert not strays


def test_the_table_of_options_is_the_one_that_the_settings_give() -> None:
    render = runpy.run_path(str(ROOT / "docs" / "configuration.py"))["render"]
    assert (ROOT / "docs" / "configuration.md").read_text() == render(), (
        "renew it: .venv/bin/python docs/configuration.py > docs/configuration.md"
    )


def test_the_table_of_alarms_has_every_kind() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page.partition("\n## Alarms\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert re.findall(r"`(\w+)`", "".join(rows)) == list(ALARM_KINDS)


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
