"""What the server does by itself between cycles: it erases what people wanted erased.

Who asks to be erased while a cycle runs is erased once it has ended. What people deleted is erased
once they can undo it no more, which is looked for once a day. Nothing is erased while a cycle runs;
what one tick could not do, the next one does.
"""

import logging
import math
import time

from chat_app.errors import ChatAppError
from chat_app.service.erasure import finish_erasures, sweep_deleted
from chat_app.settings import Settings
from feedback_store.errors import CycleInProgressError, FeedbackStoreError
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)

DAY_S = 24 * 3600.0
BY = "the server"  # for the audit log


class Upkeep:
    """Erases what is due, whenever it is asked to look."""

    def __init__(self, store: FeedbackStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._swept = -math.inf  # when; on a monotonic clock
        self._fault = ""  # the last one, so that each is told once

    def check(self) -> None:
        """Do what is due; what goes wrong is in the log, once."""
        try:
            if self._store.running_cycle() is None:
                self._do()
            self._fault = ""
        except CycleInProgressError:  # one has just begun
            return
        except (ChatAppError, FeedbackStoreError) as exc:
            if str(exc) != self._fault:
                log.error("what is to be erased cannot be: %s", exc)
            self._fault = str(exc)

    def _do(self) -> None:
        try:
            done = finish_erasures(self._store, self._settings, by=BY)
            if done:
                log.info("%d raters were erased who had to wait", done)
        finally:  # a file that cannot be cleaned does not hold up what people deleted
            self._sweep()

    def _sweep(self) -> None:
        if time.monotonic() - self._swept >= DAY_S:
            swept = sweep_deleted(self._store, self._settings)
            self._swept = time.monotonic()
            if swept:
                log.info("%d deleted conversations were erased", swept.get("conversations", 0))
