"""The watcher follows the served adapter, also after errors."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from chat_app.service.chat import ChatService
from chat_app.service.served_adapter import Watcher
from chat_app.settings import EngineSettings
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

ONE, TWO = "policy-000001", "policy-000002"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def service(engine: FakeEngine, tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for name in (ONE, TWO):
            store.register_adapter(name, kind="policy", state="published")
        yield fake_service(store, engine, tmp_path)


async def follow(service: ChatService, name: str) -> None:
    """Serve an adapter and wait until a watcher has followed it or refused it."""
    service.store.serve(name, by="operator")
    while service.adapter != service.store.serving().adapter:
        await asyncio.sleep(0.01)


def test_an_unexpected_error_ends_one_swap_but_not_the_watcher(
    service: ChatService, engine: FakeEngine
) -> None:
    def fail(adapter: str) -> None:
        if adapter == ONE:
            raise KeyError("base_model.model.layers.0")

    async def scenario() -> None:
        engine.loading = fail
        watcher = Watcher(service, on_ready=lambda: None, on_failure=lambda exc: None)
        watching = asyncio.create_task(watcher.run())
        await asyncio.wait_for(follow(service, ONE), 10)
        assert service.adapter == "policy-000000"
        assert f"{ONE} does not load" in service.store.serving().by
        await asyncio.wait_for(follow(service, TWO), 10)
        assert service.adapter == TWO
        watching.cancel()

    asyncio.run(scenario())


def test_the_adapter_before_stays_loaded_beside_the_served_one() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        EngineSettings(kept_adapters=1)
