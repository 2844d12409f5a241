"""A service and commands in processes of their own, and somebody who chats meanwhile."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


def command(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chat_app", *words],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@contextmanager
def service(data: Path, options: Sequence[str] = (), **env: str) -> Iterator[str]:
    """`feedback-chat serve` in a process of its own; yields its address."""
    words = ["serve", "--data", str(data), "--port", "0", *options]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "chat_app", *words],
        env=os.environ | {"FEEDBACK_CHAT_SCHEDULE__ENABLED": "false"} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"Chat:\s+(http://\S+)", line)
            if found:
                yield found.group(1)
                break
        else:
            pytest.fail("the service ended before it was ready")
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class Chatter(threading.Thread):
    """Somebody who chats all the while and writes down which adapter answered."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.adapters: list[str] = []
        self.failures: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        body = {"model": "policy", "messages": [{"role": "user", "content": "How are you?"}]}
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self.enough.is_set():
                answer = client.post("/v1/chat/completions", json=body)
                if answer.status_code == 200:
                    self.adapters.append(answer.json()["model"])
                else:
                    self.failures.append(answer.text)
                time.sleep(0.3)
