"""Two trainers taking turns: each waits for a word on its input before every iteration.

A worker makes a `Turns` after its imports and calls `take` at the end of each iteration; what it
prints goes to standard error, so that its standard output carries nothing but one line of JSON a
turn. The parent holds a `Side` for each. Works in the baseline's environment, too.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "PYTHONWARNINGS": "ignore",
}


class Turns:
    """The worker's end."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        self._imports_mb = memory_mb("VmRSS")
        self._imports_files_mb = memory_mb("RssFile")
        self._wall = self._cpu = 0.0

    def take(self, **facts: Any) -> None:
        """Say how the turn went (the first call: that all is ready), and wait for the next."""
        wall, cpu = time.perf_counter() - self._wall, _cpu_seconds() - self._cpu
        grown = memory_mb("VmHWM") - self._imports_mb
        files = memory_mb("RssFile") - self._imports_files_mb
        facts |= {"seconds": wall, "cpu_seconds": cpu}
        facts |= {"memory_mb": grown, "private_mb": grown - files}
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            facts |= dict.fromkeys(("memory_mb", "private_mb"), _held_on_gpu_mb())
        print(json.dumps(facts), file=self._answers, flush=True)
        if not sys.stdin.readline():
            raise SystemExit(0)  # the parent has seen enough
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()


class Side:
    """The parent's end: one worker, from its start to its end."""

    def __init__(self, python: str, module: str, job: dict[str, Any]) -> None:
        self.module = module
        self._scratch = tempfile.TemporaryDirectory()
        path = Path(self._scratch.name) / "job.json"
        path.write_text(json.dumps(job | {"scratch": self._scratch.name}))
        self._log = (Path(self._scratch.name) / "log").open("w+")
        self._process = subprocess.Popen(
            [python, "-m", module, str(path)],
            env=os.environ | ENVIRONMENT,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._scratch.cleanup()

    def turn(self) -> dict[str, Any]:
        """Let it run one iteration and wait for the end."""
        self.go()
        return self.answer()

    def go(self) -> None:
        """Let it run one iteration."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it says at the end of an iteration; the first answer is that it is ready."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{self.module} ended early:\n{self._log.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def memory_mb(field: str) -> float:
    """A figure of this process's memory: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _held_on_gpu_mb() -> float:
    return torch.cuda.max_memory_allocated() / 2**20


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
