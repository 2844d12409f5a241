"""What `from rlhf_core import` gives, and the examples of docs/library.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import rlhf_core

GUIDE = Path(__file__).parents[2] / "docs" / "library.md"
EXAMPLES = re.findall(r"^## ([^\n]*).*?```python\n(.*?)```", GUIDE.read_text(), re.M | re.S)


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_library_loads_none_of_the_heavy_packages():
    heavy = "{'torch', 'transformers', 'trl', 'peft', 'feedback_store'}"
    assert run(f"import sys, rlhf_core; print({heavy} & set(sys.modules))") == "set()\n"


def test_every_public_name_is_there_and_nothing_else_is_promised():
    for name in rlhf_core.__all__:
        assert getattr(rlhf_core, name) is not None
        assert name in dir(rlhf_core)
    with pytest.raises(AttributeError, match="train_everything"):
        rlhf_core.train_everything  # noqa: B018 - the look-up is the test


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_sft", "train_reward", "train_policy"])
def test_a_stage_is_a_function_whether_or_not_its_module_was_imported_before(name):
    program = f"from rlhf_core.{name} import {name} as it; from rlhf_core import {name} as other"
    assert run(f"{program}; print(it is other)") == "True\n"
    assert run(f"from rlhf_core import {name}; print({name}.__module__)").startswith("rlhf_core")


def test_the_guide_has_an_example_of_every_stage():
    text = "".join(program for _, program in EXAMPLES)
    assert len(EXAMPLES) == 3
    assert all(f"{name}(" in text for name in ("train_sft", "train_reward", "train_policy"))
    assert "evaluate(" in text


@pytest.mark.slow
@pytest.mark.parametrize("program", [p for _, p in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_an_example_of_the_guide_runs_as_it_stands(program):
    assert run(program).strip()
