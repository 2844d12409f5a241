"""The watcher follows the served adapter, also after errors."""

import asyncio
from collections.abc import Callable, Iterator
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
        while not (alarms := service.store.alarms()):  # it is raised after the swap
            await asyncio.sleep(0.01)
        [alarm] = alarms
        assert alarm.kind == "rolled_back"
        assert (
            alarm.text.startswith(f"{ONE} is not served") and "serving policy-000000" in alarm.text
        )
        await asyncio.wait_for(follow(service, TWO), 10)
        assert service.adapter == TWO
        watching.cancel()

    asyncio.run(scenario())


def test_the_adapter_before_stays_loaded_beside_the_served_one() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        EngineSettings(kept_adapters=1)


@pytest.mark.parametrize(
    ("allowed", "opponents"),
    [("none", ()), ("base", ("policy-000000",)), ("adapters", ("policy-000000", ONE))],
)
def test_whom_the_operator_allows_as_opponents_is_loaded(
    service: ChatService, engine: FakeEngine, tmp_path: Path, allowed: str, opponents: tuple[str]
) -> None:
    service = fake_service(service.store, engine, tmp_path, compare={"opponents": allowed})
    watched(service, lambda: service.adapter == TWO and service.opponents == opponents)
    assert set(opponents) - {"policy-000000"} <= set(engine.adapters)


def test_an_opponent_that_does_not_load_is_left_out_and_nothing_else_changes(
    service: ChatService, engine: FakeEngine, tmp_path: Path
) -> None:
    def fail(adapter: str) -> None:
        if adapter == ONE:
            raise KeyError("base_model.model.layers.0")

    engine.loading = fail
    service = fake_service(service.store, engine, tmp_path, compare={"opponents": "adapters"})
    watched(service, lambda: service.adapter == TWO and service.opponents == ("policy-000000",))
    assert service.store.serving().adapter == TWO and service.store.alarms() == []


def watched(service: ChatService, condition: Callable[[], bool]) -> None:
    """Serve an adapter and let a watcher run until something holds."""

    async def scenario() -> None:
        service.store.serve(TWO, by="operator")
        watcher = Watcher(service, on_ready=lambda: None, on_failure=lambda exc: None)
        watching = asyncio.create_task(watcher.run())
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(scenario())
