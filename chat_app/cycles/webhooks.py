"""Tell programs what happens, by signed requests: votes, alarms, ended cycles, promotions.

How far each webhook is, is in the store, so a restart loses nothing. Invariants: each webhook gets
what it wants in order and at least once; the next is sent once it has taken the one before, however
long that takes. A vote that was erased, or lacks a consent, is left out, even after it has waited.
Each webhook has a thread of its own, so none delays another one or a chat. The log never has its
address. Alarms for people, in words, are sent by `alerts`.

Source:
    Standard Webhooks 1.0.0, the headers and the signature "v1" (standardwebhooks.com).
"""

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

from chat_app.cycles.alerts import post
from chat_app.errors import log_fault
from chat_app.settings import WebhookSettings
from feedback_store.records import VOTES
from feedback_store.registry.feed import Happening
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)

POLL_S = 1.0
STOP_S = 1.0  # that a stop of the server waits for a receiver
SPARE_S = 5.0  # beside the longest time of a request, until another process may send it
WAITS = tuple(timedelta(seconds=s) for s in (5, 30, 120, 600, 1800, 3600))  # then the last one
TYPES = {"alarm": "alarm.raised", "cycle": "cycle.ended", "served": "adapter.served"}


class Webhook:
    """One receiver, and what it is to get.

    Args:
        store: What happens, and how far the receiver is.
        settings: Where it is and what it wants.
        number: Its place in the settings, by which the log names it.
        waits: From each try to the next one.
    """

    def __init__(
        self,
        store: FeedbackStore,
        settings: WebhookSettings,
        *,
        number: int = 1,
        waits: Sequence[timedelta] = WAITS,
    ) -> None:
        self.name = f"webhook {number} of the settings"
        self._store, self._settings, self._waits = store, settings, waits
        self._address = settings.url.get_secret_value()
        self._id = hashlib.sha256(self._address.encode()).hexdigest()[:16]
        self._made_at = store.made_at()
        self._lease = timedelta(seconds=settings.seconds + SPARE_S)

    def deliver(self, end: threading.Event) -> None:
        """Send all that has not been taken yet, if it is time, until something is not taken.

        Raises:
            FeedbackStoreError: The store does not answer.
        """
        turn = self._store.take_webhook(self._id, lease=self._lease)
        if turn is None:
            return
        taken, tries = turn
        newest = self._store.last_happening()  # before the last look: nothing later is passed over
        while not end.is_set() and (next_one := self._next(taken)) is not None:
            if next_one.facts is not None and (fault := self._send(next_one)):
                wait = self._waits[min(tries, len(self._waits) - 1)]
                log.error("%s %s; next try in %s", self.name, fault, wait)
                passed = next_one.number - 1  # what lies between is not wanted
                self._store.give_webhook(self._id, passed, tries=tries + 1, wait=wait)
                return
            taken, tries = next_one.number, 0
            self._store.give_webhook(self._id, taken, tries=0, wait=self._lease)
        if not end.is_set():  # past what is not wanted, so that no other kinds bring old things
            taken = max(taken, newest)
        self._store.give_webhook(self._id, taken, tries=tries, wait=timedelta(0))

    def _next(self, taken: int) -> Happening | None:
        """What comes next; only one, since the one after it may be erased meanwhile."""
        kinds, texts = self._settings.kinds, self._settings.text
        found = self._store.happenings(taken, kinds, limit=1, texts=texts)
        return found[0] if found else None

    def _name_of(self, happening: Happening) -> str:
        """The same whenever it is sent, and another's in no store.

        The time is in it because a restored backup uses numbers again.
        """
        mark = f"{self._made_at} {happening.number} {happening.at}"
        return f"feedback-chat_{happening.number}_{hashlib.sha256(mark.encode()).hexdigest()[:16]}"

    def _send(self, happening: Happening) -> str:
        """Send one; returns what went wrong, or nothing."""
        body = document(happening)
        name, now = self._name_of(happening), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._settings.key, name, now, body),
        }
        return post(self._address, body, headers=headers, seconds=self._settings.seconds)


class Deliveries:
    """A thread for each webhook of the settings, while the server runs."""

    def __init__(self, store: FeedbackStore, settings: Sequence[WebhookSettings]) -> None:
        self._end = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(Webhook(store, one, number=number),),
                name="webhook",
                daemon=True,
            )
            for number, one in enumerate(settings, start=1)
        ]

    def begin(self) -> None:
        """Start sending."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop sending; what is not taken is sent after the next start."""
        self._end.set()
        for thread in self._threads:
            thread.join(STOP_S)

    def _run(self, webhook: Webhook) -> None:
        fault = ""  # the last one, so that each is told once
        while not self._end.is_set():
            try:
                webhook.deliver(self._end)
                fault = ""
            except Exception as exc:  # whatever it is, the sending goes on
                if str(exc) != fault and not self._end.is_set():
                    log_fault(log, f"{webhook.name} cannot be told", exc)
                fault = str(exc)
            self._end.wait(POLL_S)


def document(happening: Happening) -> bytes:
    """What a receiver gets: the type, the time and the facts, as JSON."""
    kind = happening.kind
    body = {
        "type": f"vote.{kind}" if kind in VOTES else TYPES[kind],
        "timestamp": happening.at,
        "data": {"number": happening.number, **(happening.facts or {})},
    }
    return json.dumps(body, ensure_ascii=False).encode()


def signature(key: bytes, name: str, timestamp: int, body: bytes) -> str:
    """The signature of a request: of its id, its time in seconds and its body."""
    signed = f"{name}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
