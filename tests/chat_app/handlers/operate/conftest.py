"""A service on a real store without a model, and adapters that it can serve."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_app.service.chat import ChatService
from feedback_store import CandidateReply
from feedback_store.store import FeedbackStore
from tests.chat_app.fakes import FakeEngine, fake_service

ONE, TWO = "policy-000001", "policy-000002"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChatService]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        yield fake_service(store, FakeEngine(), tmp_path)


@pytest.fixture
def published(service: ChatService, tiny_adapters: Path) -> ChatService:
    """The service with two published adapters."""
    shutil.copytree(tiny_adapters, service.settings.adapters)
    for name in (ONE, TWO):
        service.store.register_adapter(name, kind="policy", state="published")
    return service


def choose(service: ChatService, preferred: str, raters: int, each: int = 5) -> None:
    """Let people prefer one adapter of the open trial."""
    store = service.store
    trial = store.open_trial()
    assert trial is not None
    for number in range(raters):
        rater = store.add_rater(f"{preferred} {number}", consent="1").id
        conversation = store.add_conversation(rater, title="sums").id
        for turn in range(each):
            asked = store.add_message(conversation, "user", f"question {number} {turn}")
            pair = [CandidateReply(name, adapter=name) for name in (trial.adapter, trial.other)]
            shown, _ = store.add_candidates(asked.id, pair, rater_id=rater, trial_id=trial.id)
            store.add_choice(shown, rater, "a" if preferred == trial.adapter else "b")
