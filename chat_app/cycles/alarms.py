"""Watch for trouble while the server runs: raise alarms, log them, have them sent.

It works in a thread of its own, so no chat waits for a receiver, and after each look it does there
what else is due (`upkeep`). A stop of the server waits for neither: the next process does what is
left. What trouble is, the core knows (`rlhf_core.cycle.alarms`); this module adds a service that
starves of votes.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from chat_app.cycles.alerts import send_due
from chat_app.cycles.readiness import Readiness, readiness
from chat_app.cycles.trials import drifting, trial_alarm
from chat_app.errors import log_fault
from chat_app.settings import ScheduleSettings, Settings
from feedback_store.records import Alarm
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.alarms import raise_alarms

log = logging.getLogger(__name__)

STOP_SECONDS = 1.0  # that a stop of the server waits for a receiver


class AlarmWatch:
    """Looks for trouble every few seconds.

    Args:
        store: What is watched.
        settings: Of the alarms, and how often to look.
        upkeep: Is called after each look.
    """

    def __init__(
        self,
        store: FeedbackStore,
        settings: Settings,
        *,
        upkeep: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._upkeep = upkeep
        self._logged = store.last_tried_alarm()
        self._fault = ""  # the last one, so that each is told once
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)

    def begin(self) -> None:
        """Start watching."""
        self._thread.start()

    def end(self) -> None:
        """Stop watching."""
        self._end.set()
        self._thread.join(STOP_SECONDS)

    def check(self) -> None:
        """Raise what is to be raised, log what is new, send what is due.

        Raises:
            FeedbackStoreError: The store does not answer.
        """
        raise_alarms(self._store, self._settings.cycle.alarms)
        self._starved()
        self._trials()
        for alarm in self._store.alarms(after=self._logged):
            about = f" of cycle {alarm.cycle_id}" if alarm.cycle_id else ""
            log.warning("alarm %d (%s)%s: %s", alarm.id, alarm.kind, about, alarm.text)
            self._logged = alarm.id
        send_due(self._store, self._settings.alerts)

    def _starved(self) -> None:
        settings, store = self._settings.schedule, self._store
        if not settings.enabled:
            return
        trials = store.trials()
        if any(trial.kind == "canary" and trial.ended_at is None for trial in trials):
            return  # it waits for people's choices between two policies, and says so
        canaries = (trial.ended_at or "" for trial in trials if trial.kind == "canary")
        since = max((store.votes_sufficed_at(), *canaries))
        ready = readiness(store, settings)
        if ready.due:
            return  # votes are not what it waits for
        alarm = starved(settings, since, ready, now=datetime.now(UTC))
        if alarm is not None:
            store.raise_alarm(alarm, key=since)

    def _trials(self) -> None:
        """What people's choices say; of ended ones, too, so that no alarm is lost by a kill."""
        for trial in self._store.trials(limit=20):
            drift = drifting(self._store, trial, self._settings.cycle.alarms)
            for alarm in (trial_alarm(trial), drift):
                if alarm is not None:
                    cycle = self._store.adapter(trial.adapter).cycle_id
                    self._store.raise_alarm(alarm, key=f"trial {trial.id}", cycle_id=cycle)

    def _run(self) -> None:
        while not self._end.wait(self._settings.schedule.poll_seconds):
            try:
                self.check()
                self._fault = ""
                self._upkeep()
            except Exception as exc:  # whatever it is, the watch goes on
                if str(exc) != self._fault and not self._end.is_set():
                    log_fault(log, "alarms cannot be looked for", exc)
                self._fault = str(exc)


def starved(
    settings: ScheduleSettings, since: str, ready: Readiness, *, now: datetime
) -> Alarm | None:
    """The alarm of a schedule that has waited too long for votes.

    Args:
        settings: When cycles start, and how many days are too long.
        since: When the waiting began, as the store writes times.
        ready: How much evidence has come, and how much starts a cycle.
        now: The time, in UTC.
    """
    days = (now - datetime.fromisoformat(since)).total_seconds() / 86_400
    if not settings.starved_days or days < settings.starved_days:
        return None
    text = (
        f"no cycle has had enough votes for {days:.0f} days: votes worth {ready.new:.0f} "
        f"comparisons have come, and {ready.needed} start a cycle (schedule.new_comparisons); ask "
        "people to vote"
    )
    return Alarm("starved", text, round(days, 2), settings.starved_days)
