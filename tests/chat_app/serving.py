"""The real application on a free port of this machine, for tests that speak HTTP to it.

`running` has it in this process, without pages; `serving` is the command, in a process of its own.
"""

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from chat_app.api.bodies import TimedProtocol
from chat_app.cycles.scheduler import CycleProcess
from chat_app.engine import Engine
from chat_app.engine.local import LocalEngine
from chat_app.identity import Identity
from chat_app.server import create_app, engine_of, identity_of, prepare_data
from chat_app.service.chat import ChatService
from chat_app.settings import RateSettings, load_settings
from feedback_store.store import FeedbackStore
from rlhf_core.config import ReplySettings
from rlhf_core.cycle.signing import adapter_key, signing_key
from rlhf_core.model.adapters import Manifest, publish_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base

# Tests are faster than people; what limits do is shown where they are set.
UNLIMITED = {name: 1e6 for name in RateSettings.model_fields if name != "replies_at_once"}


def tiny_base(path: Path | str, reply: ReplySettings | None = None) -> Base:
    """The tiny model in float64: in float32, one reply of sixty tokens in sixty depends on the rows
    beside it, because their number decides how sums are rounded.
    """
    base = load_base(str(path), quantization="none", device="cpu", reply=reply)
    base.model.double()
    return base


def publish_copy(adapter: Path, data: Path, name: str, **options: Any) -> Manifest:
    """Publish a copy of an adapter in a data directory, signed, as a cycle would."""
    staging = data / f"staging-{name}"
    shutil.copytree(adapter, staging, ignore=shutil.ignore_patterns("manifest.json"))
    base = json.loads((adapter / "manifest.json").read_text())["base"]
    given = {"kind": "policy", "base": base, "key": adapter_key(data), **options}
    return publish_adapter(staging, data / "adapters" / name, **given)


@dataclass
class Running:
    """A service on a free port of this machine, and the parts behind it."""

    url: str
    service: ChatService
    identity: Identity

    def client(self, token: str | None = "alice", **headers: str) -> httpx.Client:
        """A client of the API with a bearer token."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.02)


@contextmanager
def running(data: Path, model: Path, **options: Any) -> Iterator[Running]:
    """Run the real application under uvicorn in a thread until the block ends."""
    settings = load_settings(
        data=data,
        model=str(model),
        quantization="none",
        watch_seconds=0.05,
        **{"schedule": {"enabled": False}, "rates": UNLIMITED, **options},
    )
    prepare_data(data)
    with FeedbackStore(settings.database) as store, socket.create_server(("127.0.0.1", 0)) as port:
        identity, key = identity_of(settings, store), signing_key(store, data)
        engine: Engine
        if settings.engine.kind == "local":
            engine = LocalEngine(lambda: tiny_base(model, settings.reply), settings.engine, key=key)
        else:
            engine = engine_of(settings, key)
        service = ChatService(store, engine, settings, cycles=CycleProcess(store, settings))
        ready = threading.Event()
        app = create_app(service, identity, on_ready=ready.set, pages=False)
        config = uvicorn.Config(
            app,
            http=TimedProtocol,
            proxy_headers=False,
            log_config=None,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [port]})
        thread.start()
        try:
            assert ready.wait(60), "the service was not ready within 60 s"
            yield Running(f"http://127.0.0.1:{port.getsockname()[1]}", service, identity)
        finally:
            server.should_exit = True
            thread.join(timeout=15)


@contextmanager
def serving(
    data: Path, *options: str, log: Path, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service that has said it is ready, and its address; killed at the end if it still runs."""
    command = [sys.executable, "-m", "chat_app", "serve", "--data", str(data), "--port", "0"]
    env = {**os.environ, "FEEDBACK_CHAT_SCHEDULE__ENABLED": "false", "PYTHONUNBUFFERED": "1"}
    env |= {f"FEEDBACK_CHAT_{name.upper()}": value for name, value in variables.items()}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, *options], env=env, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout is not None
        for line in process.stdout:  # ends with the process, and waits as long as it takes
            if found := re.search(r"Chat:\s+(http://\S+)", line):
                assert f"{found[1]}/operator?token=" in next(process.stdout)
                yield process, found[1]
                break
        else:
            raise AssertionError(f"the service ended before it was ready: {log.read_text()}")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Let a process write no byte more to any file, as on a full disk."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
