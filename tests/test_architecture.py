"""The rules of docs/architecture.md, read off the source: who may import what, what nobody may."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("chat_app", "feedback_store", "rlhf_core")
FILES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))

WEB = {"fastapi", "gradio", "starlette", "uvicorn"}
TRAINING = {"bitsandbytes", "peft", "torch", "transformers", "trl"}

# package -> what it never imports
NEVER = {
    "feedback_store": {"chat_app", "rlhf_core", *WEB, *TRAINING},
    "rlhf_core": {"chat_app", *WEB},
}
# module -> the only files, as patterns, that import it
ONLY_FROM = {
    "sqlite3": ["feedback_store/*.py"],
    "pysqlite3": ["feedback_store/*.py"],
    "sqlite_utils": ["feedback_store/*.py"],
    "trl": ["rlhf_core/train_*.py"],
    "bitsandbytes": ["rlhf_core/base_model.py"],
    "gradio": ["chat_app/pages/*.py"],
}
# What trains, and what decides about it. None of it may reach the judge, however indirectly.
JUDGED = [
    *(f"rlhf_core.{path.stem}" for path in sorted((ROOT / "rlhf_core").glob("[a-z]*.py"))),
    *(
        f"rlhf_core.cycle.{path.stem}"
        for path in sorted((ROOT / "rlhf_core/cycle").glob("[a-z]*.py"))
    ),
    "rlhf_core.cycle",
    "feedback_store.store",
]
JUDGE = "rlhf_core.starter.judge"
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imported(path: Path) -> set[str]:
    """Every module that the file imports anywhere, lazy imports included, as full names."""
    package = path.relative_to(ROOT).parent.parts
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            anchor = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*anchor, *([node.module] if node.module else [])])
            names |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return names


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_imports_never_point_upwards(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert not tops(path) & NEVER.get(package, set())


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_library_is_imported_only_at_its_gateway(path: Path) -> None:
    file = path.relative_to(ROOT)
    strays = {
        module
        for module in tops(path) & ONLY_FROM.keys()
        if not any(file.match(pattern) for pattern in ONLY_FROM[module])
    }
    assert not strays


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parts[-3:-1] != ("rlhf_core", "cycle")], ids=ids
)
def test_the_core_reaches_the_store_only_in_the_cycle(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "rlhf_core":
        assert "feedback_store" not in tops(path)


def reachable(start: str) -> set[str]:
    """All product modules that importing ``start`` can bring in, directly or not."""
    files = {module_name(path): path for path in FILES}
    seen: set[str] = set()
    queue = [start]
    while queue:
        name = queue.pop()
        if name in files and name not in seen:
            seen.add(name)
            parents = [name.rsplit(".", level)[0] for level in range(1, name.count(".") + 1)]
            queue += [*imported(files[name]), *parents]
    return seen


@pytest.mark.parametrize("module", JUDGED)
def test_nothing_that_trains_or_decides_can_reach_the_judge(module: str) -> None:
    assert JUDGE not in reachable(module)


def unsafe(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                yield f"{node.lineno}: torch.load"
            case ast.keyword(arg="trust_remote_code", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                yield f"{value.lineno}: trust_remote_code"
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                yield f"{node.value.lineno}: shell=True"
            case ast.Call(func=ast.Name(id="eval" | "exec")):
                yield f"{node.lineno}: eval or exec"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nothing_loads_pickles_or_runs_foreign_code(path: Path) -> None:
    assert not tops(path) & UNSAFE_MODULES
    assert not list(unsafe(path))


# Imports a package and prints what that did besides defining things.
WATCH_IMPORT = """
import importlib, os, pkgutil, sys, threading
events = []
def watch(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes and not str(args[0]).endswith("null") and "__pycache__" not in str(args[0]):
        events.append(f"open {args[0]} {args[1]}")
    if event in {"os.mkdir", "os.remove", "os.rename", "socket.connect", "sqlite3.connect"}:
        events.append(f"{event} {args}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
events += [f"thread {t.name}" for t in threading.enumerate() if t is not threading.main_thread()]
events += [f"imports {name}" for name in sys.argv[2:] if name in sys.modules]
print("\\n".join(events), end="")
"""


def test_importing_the_store_does_no_work_and_needs_neither_torch_nor_the_web() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH_IMPORT, "feedback_store", *sorted(TRAINING | WEB)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_command_answers_without_loading_torch_or_gradio() -> None:
    code = "import sys, chat_app.cli; print(*sorted({'gradio', 'torch', 'trl'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


# Calls that touch the machine; at module level they would run on import.
WORK = {"Popen", "Thread", "connect", "from_pretrained", "mkdir", "open", "read_bytes", "read_text"}
WORK |= {"basicConfig", "getenv", "load_base", "manual_seed", "run", "write_text"}


def works(statement: ast.stmt) -> Iterator[str]:
    """Calls in a module-level statement that touch the machine."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in WORK:
                yield f"{node.lineno}: {name}"


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__main__.py"], ids=ids)
def test_a_module_does_no_work_when_it_is_imported(path: Path) -> None:
    statements = [
        statement
        for statement in tree_of(path).body
        if not (isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test))
    ]
    assert not [work for statement in statements for work in works(statement)]
    loops = [s for s in statements if isinstance(s, (ast.For, ast.While, ast.With))]
    assert not [f"{s.lineno}: {type(s).__name__}" for s in loops]
