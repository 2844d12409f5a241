"""Metadata, pins, Makefile and Dockerfile agree with the code and with one another."""

import ast
import json
import re
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = METADATA["project"], METADATA["tool"]
PACKAGES = ("chat_app", "feedback_store", "rlhf_core")
# Used without an import of ours; the reason for each stands in README.md.
UNSEEN = {"accelerate", "better-profanity", "pysqlite3", "bitsandbytes"}


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
    unused = DIRECT - imported_distributions() - UNSEEN
    assert not unused


def test_every_import_is_a_declared_dependency() -> None:
    undeclared = imported_distributions() - DIRECT - {"feedback-chat"}
    assert not undeclared


@pytest.mark.parametrize("group", ["dependencies", "dev"])
def test_every_dependency_is_pinned(group: str) -> None:
    wanted = PROJECT[group] if group == "dependencies" else PROJECT["optional-dependencies"][group]
    assert not names(wanted) - pins().keys()


def test_the_pins_name_versions_only() -> None:
    assert not [pin for pin in pins().values() if not re.fullmatch(r"\d[\w.]*", pin)]


@pytest.mark.parametrize("name", ["torch", "trl", "transformers"])
def test_what_is_tested_is_what_is_pinned(name: str) -> None:
    assert version(name).partition("+")[0] == pins()[name]


DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
STEPS = re.findall(r"^([A-Z]+) (.+)$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("file", ["Dockerfile", "Makefile"])
def test_torch_is_installed_first_and_as_pinned(file: str) -> None:
    installs = re.findall(r"pip install .*", (ROOT / file).read_text())
    torch = [place for place, line in enumerate(installs) if f"torch=={pins()['torch']}" in line]
    rest = [place for place, line in enumerate(installs) if "-c constraints.txt" in line]
    assert torch[0] == 0 and max(torch) < min(rest)


def test_the_image_copies_only_what_is_there_and_not_ignored() -> None:
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [
        source
        for step, rest in STEPS
        if step == "COPY" and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / source).exists() for source in copied)
    assert set(PACKAGES) <= set(copied)


def test_the_image_serves_its_volume_without_rights() -> None:
    last = max(number for number, (step, _) in enumerate(STEPS) if step == "FROM")
    steps = dict(STEPS[last:])
    words = [word for word, _ in STEPS[last:]]
    assert steps["USER"] not in {"root", "0"}
    assert words.index("USER") < words.index("CMD")
    assert "RUN" not in words[words.index("USER") :]
    command = json.loads(steps["CMD"])
    assert command[:2] == ["feedback-chat", "serve"]
    assert command[command.index("--data") + 1] == steps["VOLUME"]
    assert f"127.0.0.1:{steps['EXPOSE']}/healthz" in steps["HEALTHCHECK"]


def test_the_image_takes_the_cpu_build_of_torch_unless_cuda_is_wanted() -> None:
    cpu, cuda = re.findall(r"pip install torch==(\S+)", DOCKERFILE)
    assert (cpu, cuda) == (f"{pins()['torch']}+cpu", pins()["torch"])
    arguments = [rest for step, rest in STEPS if step == "ARG"]
    assert "DEVICE=cpu" in arguments


def test_the_image_is_made_of_a_base_of_one_version_and_leaves_what_builds_behind() -> None:
    bases = [rest for step, rest in STEPS if step == "FROM"]
    assert bases[0].startswith("${BASE} AS") and bases[-1] == "${BASE}"
    (base,) = [rest for step, rest in STEPS if step == "ARG" and rest.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:\d+\.\d+\.\d+-slim-\w+", base)
    last = max(number for number, (step, _) in enumerate(STEPS) if step == "FROM")
    assert not [rest for step, rest in STEPS[last:] if "pip install" in rest]


def test_the_starter_model_is_small_and_part_of_the_package() -> None:
    files = list((ROOT / "rlhf_core" / "worlds" / "starter" / "model").iterdir())
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") <= 8 * 2**20
    patterns = TOOLS["setuptools"]["package-data"]["rlhf_core.worlds.starter"]
    assert files and patterns == ["model/*"]


def test_the_files_of_the_pages_are_part_of_the_package_with_the_licences_of_others() -> None:
    assert TOOLS["setuptools"]["package-data"]["chat_app.pages"] == ["static/*", "static/**/*"]
    pages = ROOT / "chat_app" / "pages"
    vendored = {file.stem for file in (pages / "static" / "vendor").iterdir()}
    licensed = {file.stem for file in (pages / "licenses").iterdir()}
    assert vendored | {"htm"} == licensed  # which Preact's file has in it
