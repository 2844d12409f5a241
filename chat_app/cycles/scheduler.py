"""Start training cycles: when one is due (`readiness`), in a process of lower priority.

A crash of the cycle does not affect chats, and a stop of the server does not stop the cycle. This
module does not train, and the store, not this module, ensures that only one cycle runs.
"""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler

from chat_app.cycles.cancel import cancel_cycle
from chat_app.cycles.readiness import new_evidence, readiness
from chat_app.errors import ChatAppError, CycleRunsError, RefusedError
from chat_app.profile import with_profile
from chat_app.settings import CONFIG_VARIABLE, ScheduleSettings, Settings, load_settings
from feedback_store.errors import say
from feedback_store.records import Cycle
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)

DRY_RUN_S = 300.0  # a dry run that takes longer is ended


class CycleProcess:
    """Starts the training process, and knows the last one that it started."""

    def __init__(self, store: FeedbackStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._trying = threading.Lock()  # held during a dry run

    def running(self) -> int | None:
        """Process id of the running cycle, also of one that another process started."""
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        running = self._store.running_cycle()
        return None if running is None else running.pid

    def start(self) -> int:
        """Start a cycle and return its process id.

        Raises:
            RefusedError: A cycle is running, or the configuration is no longer the server's.
            InvalidRequestError: The configuration cannot be read any more.
        """
        with self._lock:
            running = self.running()
            if running is not None:
                raise CycleRunsError(
                    say("a cycle is running (process {id}); wait until it is done", id=str(running))
                )
            self._require_contract()
            data = self._settings.data
            (data / "cycles").mkdir(parents=True, exist_ok=True, mode=0o700)
            command = [sys.executable, "-m", "chat_app", "cycle", "--data", str(data)]
            with (data / "cycles" / "output.log").open("ab") as output:
                self._process = subprocess.Popen(
                    command,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that Ctrl-C on the server does not reach the cycle
                )
            os.setpriority(os.PRIO_PROCESS, self._process.pid, self._settings.schedule.niceness)
            log.info("cycle started as process %d", self._process.pid)
            return self._process.pid

    def dry_run(self) -> dict[str, Any]:
        """What a cycle would do now: the document of `cycle --dry-run --json`; takes seconds.

        Raises:
            RefusedError: Another dry run goes on.
            ChatAppError: It found nothing out; the message says why.
        """
        if not self._trying.acquire(blocking=False):
            raise RefusedError(say("a dry run is going on; wait until it is done"))
        try:
            data = str(self._settings.data)
            command = [sys.executable, "-m", "chat_app", "cycle", "--dry-run", "--json"]
            done = subprocess.run(
                [*command, "--data", data],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DRY_RUN_S,
            )
        except subprocess.TimeoutExpired as exc:
            raise ChatAppError(f"the dry run took longer than {DRY_RUN_S:.0f} seconds") from exc
        finally:
            self._trying.release()
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
            raise ChatAppError(f"the dry run failed: {said[-1]}") from None
        return found

    def cancel(self, *, by: str) -> Cycle:
        """Cancel the running cycle, whoever started it; see `cancel_cycle` for the errors."""
        return cancel_cycle(
            self._store,
            self._settings.data,
            by=by,
            starting=lambda: self._process is not None and self._process.poll() is None,
        )

    def _require_contract(self) -> None:
        """Refuse a cycle that would refuse itself, where nobody would read why.

        The process reads the configuration anew, and somebody may have changed it.
        """
        used = with_profile(self._settings)
        flags = used.model_dump(include={"data", "model", "profile", "quantization"})
        now = with_profile(load_settings(_configuration(used), **flags)).contract
        for option, value in used.contract.items():
            if now[option] != value:
                raise RefusedError(
                    say(
                        "{option} is now {new}, and this server answers with {old}; restart the "
                        "server, or undo the change",
                        option=option,
                        new=repr(now[option]),
                        old=repr(value),
                    )
                )

    def _environment(self) -> dict[str, str]:
        """The server's environment, with the model, servers and file that its flags named."""
        env = dict(os.environ)
        env["FEEDBACK_CHAT_MODEL"] = self._settings.model
        env["FEEDBACK_CHAT_PROFILE"] = self._settings.profile
        env["FEEDBACK_CHAT_QUANTIZATION"] = self._settings.quantization
        engine = self._settings.engine
        env["FEEDBACK_CHAT_ENGINE__KIND"] = engine.kind
        env["FEEDBACK_CHAT_ENGINE__VLLM_URLS"] = ",".join(engine.vllm_urls)
        file = _configuration(self._settings)
        if file is not None:
            env[CONFIG_VARIABLE] = str(file.resolve())
        return env


def _configuration(settings: Settings) -> Path | None:
    """The configuration file that the settings were read from, if there is one."""
    file = settings.toml_file
    return file if file is not None and file.is_file() else None


class Scheduler:
    """Checks every few seconds whether a cycle is due, and starts it."""

    def __init__(
        self, store: FeedbackStore, settings: ScheduleSettings, start: Callable[[], int]
    ) -> None:
        self._store = store
        self._settings = settings
        self._start = start
        self._told = ""  # the last that was logged, so that each is told once
        self._seen = 0.0  # evidence that was new before the last attempt, and still is
        self._idle_since: float | None = None  # when it began to wait for an idle window alone
        self._jobs = BackgroundScheduler(timezone=UTC)

    def begin(self) -> None:
        """Start checking in a background thread."""
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._jobs.add_job(
            self.check, "interval", seconds=self._settings.poll_seconds, coalesce=True
        )
        self._jobs.start()

    def end(self) -> None:
        """Stop checking; a running cycle goes on."""
        self._jobs.shutdown(wait=False)

    def check(self) -> bool:
        """Start a cycle if nothing is left to wait for; returns whether it did.

        Evidence that has started a process which ended without a cycle starts none again.
        """
        self._store.refresh_comparisons()
        new = new_evidence(self._store)
        self._seen = min(self._seen, new)
        ready = readiness(self._store, self._settings, seen=self._seen, waited=self._waited_hours())
        self._idle_since = (self._idle_since or time.monotonic()) if ready.idle else None
        if ready.reason is None:
            if ready.due:
                self._tell(logging.INFO, f"a cycle is due, and waits for {ready.waits_for}")
            return False
        try:
            self._start()
        except CycleRunsError:
            return False  # it has no row yet, or ends in this moment
        except ChatAppError as exc:
            self._tell(logging.WARNING, f"a cycle is due ({ready.reason}) but cannot start: {exc}")
            return False
        self._told, self._idle_since, self._seen = "", None, new
        log.info("cycle started: %s", ready.reason)
        return True

    def _waited_hours(self) -> float:
        """How long a cycle has waited for an idle window alone."""
        since = self._idle_since
        return 0.0 if since is None else (time.monotonic() - since) / 3600

    def _tell(self, level: int, text: str) -> None:
        """Log a line, unless it is the last one with other numbers."""
        told = re.sub(r"[\d.]+", "", text)
        if told != self._told:
            log.log(level, text)
        self._told = told
