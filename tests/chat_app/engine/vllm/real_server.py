"""A real server of vLLM that holds the starter.

`VLLM_COMMAND` names the command that starts one, such as `vllm serve`, or a Python with the module
of vLLM's server (docs/serving.md); without it `vllm` must be on the path. Otherwise the test is
skipped, and says so. A server on a CPU takes 3 GB of memory, and a minute to start.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO

import pytest

from rlhf_core.model.sources import STARTER_MODEL


def command() -> list[str]:
    """What starts a server."""
    if given := os.environ.get("VLLM_COMMAND"):
        return shlex.split(given)
    if found := shutil.which("vllm"):
        return [found, "serve"]
    pytest.skip("there is no vLLM: set VLLM_COMMAND, or put the command vllm on the path")


class RealServer:
    """One server of vLLM; `die` kills it, `start` starts it again."""

    def __init__(self, rank: int, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        self.url, self._rank, self._log, self._port = f"http://127.0.0.1:{port}", rank, log, port
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it in a process group of its own."""
        start, model = command(), [str(STARTER_MODEL)]
        model = model if start[-1] == "serve" else ["--model", *model]
        words = f"--host 127.0.0.1 --port {self._port} --dtype float32 --max-num-seqs 8 "
        words += "--generation-config vllm --logprobs-mode processed_logprobs "
        words += "--enable-lora --max-loras 4 --max-lora-rank "
        variables = {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with self._log.open("ab") as log:
            self.process = _started(
                [*start, *model, *words.split(), str(self._rank)], env | variables, log
            )

    def die(self) -> None:
        """Kill all of its processes."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def _started(words: list[str], env: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)
