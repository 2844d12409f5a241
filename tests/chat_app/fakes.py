"""A service on a real store and an engine without a model, for the rules around both."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from chat_app.cycles.scheduler import CycleProcess
from chat_app.engine import GenerationRequest, Piece
from chat_app.engine.measures import Measures
from chat_app.service.chat import ChatService
from chat_app.settings import Settings
from feedback_store.store import FeedbackStore


class FakeEngine:
    """Says "one two" to everything; a test may have it say other things, or break it."""

    def __init__(self) -> None:
        self.measures = Measures()
        self.says: list[str] = []  # before "one two", each once
        self.seeds: list[int] = []  # of what was asked for
        self.adapters: list[str] = []
        self.loading: Callable[[str], None] = lambda adapter: None
        self.waits = False  # after the first piece, for ever
        self.doubting = False
        self.unsure: dict[tuple[int, int], float] = {}  # what `doubts` says
        self.asked: list[Sequence[str]] = []  # of `doubts`
        self.starts: Callable[[], Any] = lambda: None  # called when a reply begins

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Two pieces, or one and then nothing more."""
        self.starts()
        self.seeds.append(request.seed)
        if self.says:
            yield Piece(self.says.pop(0), "stop", 3, 1)
            return
        yield Piece("one")
        if self.waits:
            await asyncio.Event().wait()
        yield Piece(" two", "stop", 3, 2)

    async def check(self, request: GenerationRequest) -> None:
        """Every prompt fits."""

    async def load(self, adapter: str, path: Path) -> None:
        """Load, unless the test says otherwise."""
        self.loading(adapter)
        self.adapters.append(adapter)

    async def load_doubts(self, path: Path) -> None:
        """Load, unless the test says otherwise."""
        self.loading(path.name)
        self.doubting = True

    def drop_doubts(self) -> None:
        """Know nothing."""
        self.doubting = False

    async def doubts(self, prompt: Any, replies: Sequence[str]) -> dict[tuple[int, int], float]:
        """What the test says."""
        self.asked.append(replies)
        return self.unsure

    async def unload(self, adapter: str) -> None:
        """Drop an adapter."""
        self.adapters.remove(adapter)

    def health(self) -> dict[str, Any]:
        """The facts that the watcher and the service read."""
        return {"alive": True, "ready": True, "failure": None, "rows": 0, "waiting": 0}

    def close(self) -> None:
        """Nothing runs."""


def fake_service(
    store: FeedbackStore, engine: FakeEngine, data: Path, /, **options: Any
) -> ChatService:
    """A service that is ready, on ``engine``."""
    settings = Settings.model_validate({"data": data, "watch_seconds": 0.01, **options})
    service = ChatService(store, engine, settings, cycles=CycleProcess(store, settings))
    service.ready = True
    return service
