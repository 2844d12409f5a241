"""Start training cycles: when one is due (`ScheduleSettings`), in a process of lower priority.

A crash of the cycle does not affect chats, and a stop of the server does not stop the cycle. This
module does not train, and the store, not this module, ensures that only one cycle runs.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler

from chat_app.cycles.cancel import cancel_cycle
from chat_app.errors import ChatAppError, RefusedError
from chat_app.profile import with_profile
from chat_app.settings import CONFIG_VARIABLE, ScheduleSettings, Settings, load_settings
from feedback_store.records import Cycle
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)


class CycleProcess:
    """Starts the training process, and knows the last one that it started."""

    def __init__(self, store: FeedbackStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

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
                raise RefusedError(f"a cycle is running (process {running}); wait until it is done")
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
                    f"{option} is now {now[option]!r}, and this server answers with {value!r}; "
                    "restart the server, or undo the change"
                )

    def _environment(self) -> dict[str, str]:
        """The server's environment, with the model and the file that its flags named."""
        env = dict(os.environ)
        env["FEEDBACK_CHAT_MODEL"] = self._settings.model
        env["FEEDBACK_CHAT_PROFILE"] = self._settings.profile
        env["FEEDBACK_CHAT_QUANTIZATION"] = self._settings.quantization
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
        self._since = datetime.now(UTC)
        self._refusal = ""  # the last one, so that each is told once
        self._left = 0  # comparisons that were new before the last attempt, and still are
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
        """Start a cycle if one is due; returns whether it did.

        None is while people still compare the last candidate with the served policy: what they say
        decides what the next one begins with.
        """
        self._store.refresh_comparisons()
        running = self._store.running_cycle()
        new = self._store.new_comparisons(after_cancel=True)
        if running is None:  # a running one may still be refused, and release its comparisons
            self._left = min(self._left, new)
        reason = due(
            self._settings,
            new=new - min(self._left, new),
            hours=self._hours_since(self._store.last_cycle()),
        )
        trial = self._store.open_trial()
        if reason is None or (trial is not None and trial.kind == "canary"):
            return False
        try:
            self._start()
        except ChatAppError as exc:
            if str(exc) != self._refusal:
                log.warning("a cycle is due (%s) but cannot start: %s", reason, exc)
            self._refusal = str(exc)
            return False
        self._refusal = ""
        self._left = new
        log.info("cycle started: %s", reason)
        return True

    def _hours_since(self, cycle: Cycle | None) -> float:
        """Hours since a cycle began, or was cancelled; without one, since this scheduler began."""
        began = self._since if cycle is None else datetime.fromisoformat(_moment(cycle))
        return (datetime.now(UTC) - began).total_seconds() / 3600


def _moment(cycle: Cycle) -> str:
    """From when on the scheduler counts: who cancels a cycle wants none at once."""
    ended = cycle.finished_at if cycle.state == "cancelled" else None
    return ended or cycle.started_at


def due(settings: ScheduleSettings, *, new: int, hours: float) -> str | None:
    """The reason to start a cycle now, or None.

    Args:
        settings: The two conditions.
        new: Comparisons since the last cycle that reached a verdict or was cancelled, and that no
            refused one had.
        hours: Since the last cycle began, or was cancelled; without one, since the server began.
    """
    if new >= settings.new_comparisons:
        return f"{new} new comparisons"
    if settings.every_hours and new and hours >= settings.every_hours:
        return f"{hours:.1f} hours since the last cycle"
    return None
