"""The examples of jobs call a command that exists, as a user and in places that the image has."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
import yaml

from chat_app.commands.main import app

ROOT = Path(__file__).parents[3]
SLURM, KUBERNETES = (ROOT / "deploy" / "jobs" / f"cycle.{end}" for end in ("slurm", "yaml"))
COMMAND: Any = typer.main.get_command(app)


def require_cycle(words: list[str]) -> None:
    assert words[:2] == ["feedback-chat", "cycle"]
    known = {option for parameter in COMMAND.commands["cycle"].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} == {"--evidence", "--out"} <= known


def test_the_kubernetes_job_runs_as_the_image_does() -> None:
    job = yaml.safe_load(KUBERNETES.read_text())
    pod = job["spec"]["template"]["spec"]
    (cycle,) = pod["containers"]
    require_cycle(cycle["args"])  # no `command`, so that tini stays
    assert "command" not in cycle
    image = (ROOT / "Dockerfile").read_text()
    (uid,) = re.findall(r"--uid (\d+) chat", image)
    user = pod["securityContext"]
    assert {user["runAsUser"], user["runAsGroup"], user["fsGroup"]} == {int(uid)}
    mounts = {mount["mountPath"] for mount in cycle["volumeMounts"]}
    assert mounts == {"/data", "/tmp"}
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in cycle["volumeMounts"]}
    (temporary,) = (e["value"] for e in cycle["env"] if e["name"] == "TMPDIR")
    assert temporary in mounts and "TMPDIR=/data/tmp" in image
    places = [word for word in cycle["args"] if word.startswith("/")]
    assert all(place.startswith("/data/") for place in places)


def test_the_slurm_job_hands_its_file_and_folder_to_the_cycle(tmp_path: Path) -> None:
    (line,) = (line for line in SLURM.read_text().splitlines() if line.startswith("srun "))
    require_cycle(shlex.split(line)[1:])
    srun = tmp_path / "srun"  # stands for Slurm's: it starts what it is told to, on this machine
    srun.write_text(f'#!/bin/bash\nshift\nexec "{sys.executable}" -m chat_app "$@"\n')
    srun.chmod(0o700)
    found = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "EVIDENCE": "/none.tar"}
    for given, code, told in (
        ({}, 1, "OUT: is a folder"),
        ({"OUT": str(tmp_path / "o")}, 2, "/none.tar"),
    ):
        done = subprocess.run(
            ["bash", str(SLURM)],
            env=os.environ | found | given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code and told in done.stderr, done.stderr
