"""Clients of OpenAI's API work unchanged: OpenAI's own, LiteLLM, LangChain.

`CLIENTS_PYTHON` names a Python that has those which are not among our own dependencies.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chat_app.api.v1 import clients
from tests.chat_app.serving import Running


@pytest.mark.slow
@pytest.mark.parametrize("name", clients.CLIENTS)
def test_a_client_works_unchanged(served: Running, name: str, tmp_path: Path) -> None:
    command = [os.environ.get("CLIENTS_PYTHON", sys.executable), clients.__file__, name]
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [*command, f"{served.url}/v1"],
        env=plain,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == clients.MISSING:
        pytest.skip(f"{name} is not installed")
    assert done.returncode == 0, done.stderr[-3000:]
