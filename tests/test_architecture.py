"""The rules of docs/architecture.md, read off the source: who may import what, what nobody may."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

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
# module -> the only places that import it: folders end with a slash
ONLY_FROM = {
    "sqlite3": ("feedback_store/",),
    "pysqlite3": ("feedback_store/",),
    "sqlite_utils": ("feedback_store/",),
    "trl": (
        "rlhf_core/ppo/trainer.py",
        "rlhf_core/reward/trainer.py",
        "rlhf_core/train_policy.py",
        "rlhf_core/train_sft.py",
    ),
    "bitsandbytes": ("rlhf_core/model/loading.py",),
    "gguf": ("rlhf_core/model/conversions.py",),
    "gradio": ("chat_app/pages/",),
}
WORLDS = (
    "rlhf_core.worlds.starter",
    "rlhf_core.worlds.checkable",
    "rlhf_core.worlds.miniature",
)  # each has its visitors and its gold judge
ASKS_THEM = ("chat_app.commands", "chat_app.simulate", "chat_app.__main__")
TRAINS = ("rlhf_core.train_", "rlhf_core.reward", "rlhf_core.ppo", "rlhf_core.training")
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
MOST_ENTRIES = 14  # of a folder, beside its __init__


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST, package: tuple[str, ...]) -> set[str]:
    """Every module that a file imports anywhere, lazy imports included, as full names."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            anchor = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*anchor, *([node.module] if node.module else [])])
            names |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return names


# Each file is read and parsed once: its name from the root, its tree, what it imports.
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(), filename=str(path))
    for path in FILES
}
IMPORTS = {file: imports_of(tree, PurePosixPath(file).parent.parts) for file, tree in TREES.items()}
MODULES = {module_name(ROOT / file): file for file in TREES}


def tops(file: str) -> set[str]:
    return {name.partition(".")[0] for name in IMPORTS[file]}


def test_imports_never_point_upwards() -> None:
    strays = {
        (file, name) for file in TREES for name in tops(file) & NEVER.get(file.split("/")[0], set())
    }
    assert not strays


def test_a_library_is_imported_only_at_its_gateway() -> None:
    strays = {
        (file, name)
        for file in TREES
        for name in tops(file) & ONLY_FROM.keys()
        if not file.startswith(ONLY_FROM[name])
    }
    assert not strays


def test_the_core_reaches_the_store_only_in_the_cycle() -> None:
    core = {file for file in TREES if file.startswith("rlhf_core/")}
    strays = {file for file in core if "feedback_store" in tops(file)}
    assert all(file.startswith("rlhf_core/cycle/") for file in strays), strays
    assert strays


def reachable(start: str) -> set[str]:
    """All product modules that importing ``start`` can bring in, directly or not."""
    seen: set[str] = set()
    queue = [start]
    while queue:
        name = queue.pop()
        if name in MODULES and name not in seen:
            seen.add(name)
            parents = [name.rsplit(".", level)[0] for level in range(1, name.count(".") + 1)]
            queue += [*IMPORTS[MODULES[name]], *parents]
    return seen


def test_nothing_that_trains_serves_or_decides_can_reach_a_gold_judge() -> None:
    judges = {f"{world}.judge" for world in WORLDS}
    assert judges <= MODULES.keys()
    measures = "rlhf_core.reproduction"
    others = [name for name in MODULES if not name.startswith((*WORLDS, *ASKS_THEM, measures))]
    # of the reproduction, what trains and what chooses
    of_it = ("policies", "answering", "voting_rounds", "rater_weights", "stages", "profiles")
    others += [f"{measures}.{name}" for name in of_it]
    assert {"rlhf_core.cycle", "rlhf_core.train_policy", "feedback_store.store"} <= set(others)
    # in a world, its probes decide, and what the cycle takes from the world trains
    others += ["rlhf_core.worlds.starter.probes", "rlhf_core.worlds.starter.corpus"]
    # what the models of the miniature world are made of and trained on
    others += [
        f"rlhf_core.worlds.miniature.{name}" for name in ("build", "corpus", "replies", "skills")
    ]
    assert set(others) <= MODULES.keys()
    assert not [name for name in others if judges & reachable(name)]


def test_nothing_that_trains_can_reach_the_probes_or_what_checks_them() -> None:
    trains = [name for name in MODULES if name.startswith(TRAINS)]
    assert {"rlhf_core.train_policy", "rlhf_core.ppo.trainer"} <= set(trains)
    probes = {name for name in MODULES if name.startswith("rlhf_core.gate.probes.")}
    assert {"rlhf_core.gate.probes.packs", "rlhf_core.gate.probes.tastes"} <= probes
    assert not [name for name in trains if probes & reachable(name)]


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """The nodes that can be reached from themselves."""

    def from_(node: str) -> set[str]:
        seen: set[str] = set()
        queue = [*arrows.get(node, ())]
        while queue:
            name = queue.pop()
            if name not in seen:
                seen.add(name)
                queue += arrows.get(name, ())
        return seen

    return sorted(node for node in arrows if node in from_(node))


def named_modules(file: str) -> set[str]:
    """The product's modules that a file names in its imports, packages' faces included."""
    return {MODULES[name] for name in IMPORTS[file] if name in MODULES} - {file}


def room(file: str) -> str:
    """A folder below a package stands as a whole; a file at the top of a package by itself."""
    parts = file.split("/")
    return file if len(parts) == 2 else "/".join(parts[:2])


def test_no_files_import_each_other_in_a_circle() -> None:
    assert not circles({file: named_modules(file) for file in TREES})


def test_no_folders_import_each_other_in_a_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for file in TREES:
        goals = {room(other) for other in named_modules(file)} - {room(file)}
        arrows.setdefault(room(file), set()).update(goals)
    assert not circles(arrows)


def test_a_folder_has_few_entries() -> None:
    folders = {parent for path in FILES for parent in path.parents if parent != ROOT}
    folders = {folder for folder in folders if folder.is_relative_to(ROOT)}
    crowded = {}
    for folder in folders:
        entries = {
            entry.name
            for entry in folder.iterdir()
            if entry.name not in ("__init__.py", "__pycache__", "py.typed")
        }
        if len(entries) > MOST_ENTRIES:
            crowded[str(folder.relative_to(ROOT))] = len(entries)
    assert not crowded


def test_a_public_class_name_stands_once() -> None:
    places: dict[str, list[str]] = {}
    for file, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(file)
    assert not {name: files for name, files in places.items() if len(files) > 1}


def unsafe(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
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


def test_nothing_loads_pickles_or_runs_foreign_code() -> None:
    assert not {(file, name) for file in TREES for name in tops(file) & UNSAFE_MODULES}
    assert not [f"{file}:{found}" for file, tree in TREES.items() for found in unsafe(tree)]


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
    code = (
        "import sys, chat_app.commands.main as _, rlhf_core.cycle.resume as _;"  # as `forget` does
        "print(*sorted({'gradio', 'torch', 'trl'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_a_worker_of_reproduce_sets_its_environment_before_it_loads_torch() -> None:
    """torch and the hub's client read it once, and a spawned worker imports this module first."""
    code = (
        "import sys, rlhf_core.reproduction.stages as _;"
        "print(*sorted({'torch', 'huggingface_hub', 'numpy'} & set(sys.modules)))"
    )
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


def test_a_module_does_no_work_when_it_is_imported() -> None:
    found = []
    for file, tree in TREES.items():
        if file.endswith("__main__.py"):
            continue
        for statement in tree.body:
            if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
                continue
            found += [f"{file}:{work}" for work in works(statement)]
            if isinstance(statement, (ast.For, ast.While, ast.With)):
                found.append(f"{file}:{statement.lineno}: {type(statement).__name__}")
    assert not found
