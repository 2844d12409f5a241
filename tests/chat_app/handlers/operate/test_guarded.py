"""Nothing of the operator's is done or shown for anybody else."""

import inspect
from typing import Any

import pytest

from chat_app.errors import NotAllowedError
from chat_app.handlers.operate.acts import Acts
from chat_app.handlers.operate.adapters import AdapterList
from chat_app.handlers.operate.data import Data
from chat_app.handlers.operate.now import Now
from chat_app.handlers.operate.options import InForce
from chat_app.handlers.operate.people import People
from chat_app.handlers.operate.records import Records
from chat_app.handlers.operate.rounds import Rounds
from chat_app.service.chat import ChatService

GIVEN: dict[str, Any] = {
    "cycle_id": 1,
    "name": "policy-000000",
    "rater_id": "ann",
    "reason": "none",
    "query": "words",
    "conversation_id": "c",
    "kind": "vote",
    "ids": ("v",),
}


@pytest.mark.parametrize(
    ("part", "methods"),
    [
        (Acts, 6),
        (AdapterList, 1),
        (Data, 6),
        (InForce, 1),
        (Now, 1),
        (People, 4),
        (Records, 4),
        (Rounds, 3),
    ],
)
def test_every_operation_is_refused_to_visitors(
    service: ChatService, part: type[Any], methods: int
) -> None:
    names = [name for name in dir(part) if not name.startswith("_")]
    assert len(names) == methods
    for name in names:
        method = getattr(part(service), name)
        needed = {key: GIVEN[key] for key in inspect.signature(method).parameters if key in GIVEN}
        with pytest.raises(NotAllowedError, match="operators only"):
            method(**needed, allowed=False)
    assert service.store.cycles() == [] and service.cycles.running() is None
    assert service.store.audit_log() == []
