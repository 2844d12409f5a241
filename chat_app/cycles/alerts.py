"""Send alarms to the operator's webhook and command.

Who is told, and how often, is in the store, so restarts and several processes change nothing.
Invariants: an address gets an alarm again only if it did not take it; a command gets it once. What
goes wrong is one line in the log, and raises nothing. No text of a chat is sent, and the log never
has the webhook's address, which may hold a secret.
"""

import asyncio
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx

from chat_app import __version__
from chat_app.cycles.status import alarm_facts
from chat_app.settings import AlertSettings
from feedback_store.records import RaisedAlarm
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)

# From each try to the next one: longer than both may take, or two processes could send it at once.
WAITS = tuple(timedelta(minutes=m) for m in (3, 15, 60, 240, 720))


def send_due(store: FeedbackStore, settings: AlertSettings) -> None:
    """Send every alarm that is due: those not sent yet, or whose next try has come.

    It ends where a receiver does not answer, so that nobody waits for it again and again.

    Raises:
        FeedbackStoreError: The store does not answer.
    """
    while (alarm := store.take_alarm(WAITS)) is not None and send(alarm, settings):
        store.note_sent(alarm.id)


def send(alarm: RaisedAlarm, settings: AlertSettings) -> bool:
    """Send one alarm; returns whether nothing is left to try again."""
    body = document(alarm, settings)
    if settings.command is not None and alarm.tries <= 1:
        fault = run(settings.command, body, seconds=settings.seconds)
        if fault:
            log.error("alarm %d: alerts.command %s", alarm.id, fault)
    if settings.webhook is None:
        return True
    address, content = settings.webhook.get_secret_value(), json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    fault = post(address, content, headers=headers, seconds=settings.seconds)
    if fault:
        later = alarm.tries <= len(WAITS)
        then = f"next try in {WAITS[alarm.tries - 1]}" if later else "this was the last try"
        log.error("alarm %d: alerts.webhook %s; %s", alarm.id, fault, then)
    return not fault


def document(alarm: RaisedAlarm, settings: AlertSettings) -> dict[str, Any]:
    """What receivers get; `text` alone is enough for a person."""
    installation = settings.installation or socket.gethostname()
    where = f"{installation}, cycle {alarm.cycle_id}" if alarm.cycle_id else installation
    return alarm_facts(alarm) | {
        "text": f"feedback-chat on {where}: {alarm.text}",
        "installation": installation,
    }


def post(address: str, body: bytes, *, headers: Mapping[str, str], seconds: float) -> str:
    """Send a document to a webhook; returns what went wrong, or nothing."""
    try:
        status = asyncio.run(_status_of_post(address, body, headers, seconds))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ExceptionGroup) as exc:
        return f"gave {type(exc).__name__}"  # the error's own text may have the address
    return "" if 200 <= status < 300 else f"answered {status}"


async def _status_of_post(
    address: str, body: bytes, headers: Mapping[str, str], seconds: float
) -> int:
    """The receiver's status; its answer is not read, and a redirect is not followed."""
    headers = {"User-Agent": f"feedback-chat/{__version__}", **headers}
    async with (
        asyncio.timeout(seconds),  # of the whole; httpx limits each of its steps alone
        httpx.AsyncClient(timeout=None) as client,
        client.stream("POST", address, content=body, headers=headers) as answer,
    ):
        return answer.status_code


def run(command: str, body: dict[str, Any], *, seconds: float) -> str:
    """Run a command with a document on its stdin; returns what went wrong, or nothing."""
    quiet = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.PIPE,
            stdout=quiet,
            stderr=quiet,
            start_new_session=True,  # so that all that it starts can be stopped
        )
    except (OSError, ValueError) as exc:
        return f"cannot be started: {exc}"
    try:
        process.communicate(json.dumps(body).encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"took longer than {seconds:g} seconds and was stopped"
    return f"ended with {process.returncode}" if process.returncode else ""
