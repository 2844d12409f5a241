"""Two processes under `accelerate launch` train what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

HERE = Path(__file__).parent
LAUNCH = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1"
LAUNCH += " --mixed_precision no --dynamo_backend no --main_process_port 0"


def run(model: Path, out: Path, *, processes: int, stop: int = 0) -> int:
    """Train the three stages into `out`, or be stopped after so many iterations of PPO."""
    out.mkdir(exist_ok=True)
    script = [str(HERE / "share_stages.py"), str(model), str(out), str(stop)]
    more = {"PYTHONPATH": str(HERE.parents[2]), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [sys.executable, *(LAUNCH.split() if processes == 2 else []), *script],
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert stop or done.returncode == 0, done.stderr
    return done.returncode


def largest_difference(one: Path, other: Path) -> float:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys() and a
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_send_nothing_but_adapters(model_path, tmp_path):
    run(model_path, tmp_path / "one", processes=1)
    run(model_path, tmp_path / "two", processes=2)
    first, second = (tmp_path / "two" / f"rank-{rank}.safetensors" for rank in (0, 1))
    assert largest_difference(first, second) == 0
    assert largest_difference(tmp_path / "one" / "rank-0.safetensors", first) < 5e-5
    trained = load_file(first)
    moved = {name: trained[name].abs().max() for name in trained if "lora_B" in name}  # from 0
    lower = {name for name in moved if ".reward-" in name and ".layers.0." in name}
    assert lower and {name for name, most in moved.items() if most < 2e-4} == lower
    with safe_open(first, framework="pt") as found:
        sent = set(found.metadata()["sent"].split(","))
    heads = {"critic.head.bias", "critic.head.weight", "member.head.bias", "member.head.weight"}
    assert {name for name in sent if "lora" not in name} == heads | {"offsets", "raw_tie_width"}


@pytest.mark.slow
def test_two_processes_that_were_stopped_resume_together(model_path, tmp_path):
    run(model_path, tmp_path / "whole", processes=2)
    assert run(model_path, tmp_path / "stopped", processes=2, stop=2) != 0
    run(model_path, tmp_path / "stopped", processes=2)
    whole, resumed = (tmp_path / name / "rank-1.safetensors" for name in ("whole", "stopped"))
    assert largest_difference(whole, resumed) <= 1e-6
