"""Makes new replies use the adapter that the store says is served.

The only writer of `ChatService.adapter`. Invariant: it names an adapter that is loaded, so a chat
never fails because of a swap. An adapter that cannot be verified or loaded is never served: the row
is set back to the one before, with the reason in the log and the act in the store's audit.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from chat_app.service.chat import ChatService
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import BASE_ADAPTER, Serving

log = logging.getLogger(__name__)


class Watcher:
    """Follows the served adapter, a few looks a second.

    Args:
        service: Whose adapter is kept right.
        on_ready: Called once, when the model and the served adapter are loaded.
        on_failure: Called once, if the model cannot be loaded.
    """

    def __init__(
        self,
        service: ChatService,
        *,
        on_ready: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._service = service
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._bad: set[str] = set()
        self._recent: list[str] = []  # loaded adapters, the one used last at the end

    async def run(self) -> None:
        """Watch until cancelled, or until the model turns out not to load."""
        while True:
            health = self._service.engine.health()
            if health["failure"] is not None:
                self._on_failure(health["failure"])
                return
            if health["ready"]:
                await self._look(health)
            await asyncio.sleep(self._service.settings.watch_seconds)

    async def _look(self, health: dict[str, Any]) -> None:
        try:
            serving = await asyncio.to_thread(self._service.store.serving)
            if serving.adapter != self._service.adapter or not self._service.ready:
                await self._follow(serving)
        except FeedbackStoreError:
            log.exception("the store does not say which adapter is served; nothing is changed")

    async def _follow(self, serving: Serving) -> None:
        name = serving.adapter
        try:
            if name != BASE_ADAPTER:
                path = self._service.settings.adapters / name
                await self._service.engine.load(name, path)
        except Exception as exc:  # whatever it is, the next swap has to be followed too
            await self._fall_back(serving, exc)
            return
        log.info("replies now come from %s (was %s)", name, self._service.adapter)
        self._service.adapter = name
        if not self._service.ready:
            self._service.ready = True
            self._on_ready()
        await self._forget_old(name)

    async def _fall_back(self, serving: Serving, reason: Exception) -> None:
        """Serve the best adapter that is not known to be bad; the row says so to everybody."""
        self._bad.add(serving.adapter)
        current = self._service.adapter if self._service.ready else None
        choices = (current, serving.previous, BASE_ADAPTER)
        good = next(name for name in choices if name is not None and name not in self._bad)
        log.error("%s is not served: %s; serving %s instead", serving.adapter, reason, good)
        if (await asyncio.to_thread(self._service.store.serving)).adapter == serving.adapter:
            await asyncio.to_thread(
                self._service.store.serve, good, by=f"server: {serving.adapter} does not load"
            )

    async def _forget_old(self, name: str) -> None:
        """Keep the last few adapters loaded, so that a rollback costs nothing."""
        if name != BASE_ADAPTER:
            self._recent = [*(other for other in self._recent if other != name), name]
        while len(self._recent) > self._service.settings.engine.kept_adapters:
            await self._service.engine.unload(self._recent.pop(0))
