"""A service on a real store and a tiny real model, and what the pages' handlers do with it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.cycles.scheduler import CycleProcess
from chat_app.engine.local import LocalEngine
from chat_app.handlers.talk import Talk
from chat_app.handlers.votes import Votes
from chat_app.service.chat import ChatService
from chat_app.settings import EngineSettings, Settings
from feedback_store.store import FeedbackStore
from rlhf_core.model.loading import load_base
from tests.chat_app.handlers.talking import ANN


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(
        lambda: load_base(str(tiny_model), quantization="none", device="cpu"),
        EngineSettings(rows=8, waiting=8, updates_per_second=1000),
        key=None,
        reply_seconds=60.0,
    )
    while not engine.health()["ready"]:
        time.sleep(0.01)
    yield engine
    engine.close()


@pytest.fixture
def service(engine: LocalEngine, tmp_path: Path) -> Iterator[ChatService]:
    settings = Settings.model_validate({"data": tmp_path, "reply": {"tokens": 12}})
    with FeedbackStore(settings.database) as store:
        cycles = CycleProcess(store, settings)
        service = ChatService(store, engine, settings, cycles=cycles)
        service.ready = True
        yield service


@pytest.fixture
def talk(service: ChatService) -> Talk:
    return Talk(service)


@pytest.fixture
def votes(service: ChatService) -> Votes:
    votes = Votes(service)
    votes.consent(ANN, given=True)
    return votes
