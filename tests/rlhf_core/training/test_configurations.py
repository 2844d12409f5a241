"""The configurations for `accelerate launch` give the losses that one process gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "share_by_configuration.py"
FILES = ROOT / "deploy" / "accelerate"


def run(out: Path, *launcher: str) -> list[dict[str, object]]:
    """What each process says of its training."""
    out.mkdir()
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), str(out)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(file.read_text()) for file in sorted(out.glob("rank-*.json"))]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    (one,) = run(tmp_path_factory.mktemp("alone") / "out")
    return one["losses"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sharded"), [("processes", False), ("fsdp", True)])
def test_two_processes_have_the_mean_loss_of_one(alone, tmp_path, name, sharded):
    launch = ("-m", "accelerate.commands.launch", "--config_file", str(FILES / f"{name}.yaml"))
    found = run(tmp_path / "out", *launch)
    assert len(found) == 2
    assert all((process["shards"] > 50) is sharded for process in found)
    losses = zip(*(process["losses"] for process in found), strict=True)
    assert [sum(both) / 2 for both in losses] == pytest.approx(alone, rel=1e-3)
