"""Processes killed at random moments, in all stages: what they do in the end is as if they had not.

The kills are the kernel's, of real processes; see ``kill_stages.py``.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from feedback_store import FeedbackStore

HERE = Path(__file__).parent
LAUNCH = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1"
LAUNCH += " --mixed_precision no --dynamo_backend no --main_process_port 0"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sixty_killed_runs_end_equal_to_the_uninterrupted_one(model_path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_stages.py"), str(model_path), str(tmp_path), "20"],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    assert Counter(trial["stage"] for trial in trials) == {"sft": 20, "reward": 20, "policy": 20}
    assert max(trial["difference"] for trial in trials) <= 1e-6
    resumed = Counter(trial["stage"] for trial in trials if trial["checkpoints"])
    assert min(resumed[stage] for stage in ("sft", "reward", "policy")) >= 10  # not only anew


@pytest.fixture
def cycle(model_path, small_cycle, tmp_path):
    """Starts `feedback-chat cycle` on a data directory, perhaps in two processes."""
    file = tmp_path / "cycle.toml"
    lines = []
    for name, value in small_cycle.model_dump(exclude_unset=True).items():
        if isinstance(value, dict):
            value |= {} if name == "gate" else {"checkpoint_seconds": 0.0}
            lines += [f"[cycle.{name}]", *(f"{k} = {json.dumps(v)}" for k, v in value.items())]
        else:
            lines.insert(0, f"{name} = {value}")
    file.write_text("\n".join(["quantization = 'none'", "[cycle]", *lines]) + "\n")

    def start(data, launcher=""):
        words = f"-m chat_app cycle --data {data} --model {model_path} --config {file} --json"
        return subprocess.Popen(
            [sys.executable, *launcher.split(), *words.split()],
            env=os.environ | {"ACCELERATE_USE_CPU": "true"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return start


def last_cycle(data):
    with FeedbackStore(data / "feedback.db") as store:
        return store.last_cycle()


@pytest.mark.slow
def test_a_cycle_that_was_killed_again_and_again_ends_the_same(data, cycle, tmp_path):
    other = shutil.copytree(data, tmp_path / "other")
    assert cycle(other).wait() in (0, 3)
    for stage in ("sft", "reward-m0", "policy"):
        process = cycle(data)
        while not list(data.glob(f"cycles/*/checkpoints/{stage}.safetensors")):
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        assert process.wait() < 0
    assert cycle(data).wait() in (0, 3)
    whole, resumed = last_cycle(other), last_cycle(data)
    assert (resumed.state, resumed.reasons) == (whole.state, whole.reasons)
    assert "resumed_cycle" in resumed.metrics
    one, two = (
        load_file(d / "adapters" / last_cycle(d).adapter / "adapter_model.safetensors")
        for d in (other, data)
    )
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_two_processes_run_one_cycle(data, cycle):
    cycle(data, LAUNCH).wait()
    found = last_cycle(data)
    assert found.id == 1
    assert found.state in ("promoted", "rejected")
    assert {"win_rate", "kl"} <= found.metrics.keys()
    assert (data / "adapters" / found.adapter / "manifest.json").exists()
