"""Which server writes a reply: the conversation's own, unless it is much busier."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_app.engine.vllm.replicas import LEEWAY, Replicas
from chat_app.errors import BusyError
from rlhf_core.training.vllm.replica import Replica

KEYS = st.text(max_size=20)


def some(count: int) -> Replicas:
    http = httpx.AsyncClient()
    replicas = Replicas([Replica(f"http://{i}", http, window=1) for i in range(count)])
    for replica in replicas.every:
        replica.fault = ""
    return replicas


@given(key=KEYS, count=st.integers(2, 6), gone=st.integers(0, 5))
def test_a_server_that_goes_moves_its_own_conversations_only(
    key: str, count: int, gone: int
) -> None:
    replicas = some(count)
    chosen = replicas.choose(key)
    assert replicas.choose(key) is chosen
    left = replicas.every[gone % count]
    left.fault = "gone"
    now = replicas.choose(key)
    assert now is not left and (now is chosen or chosen is left)


@given(key=KEYS, rows=st.lists(st.integers(0, 40), min_size=2, max_size=6))
def test_no_server_gets_much_more_than_the_idlest(key: str, rows: list[int]) -> None:
    replicas = some(len(rows))
    for replica, count in zip(replicas.every, rows, strict=True):
        replica.rows = count
    assert replicas.choose(key).rows <= min(rows) + LEEWAY


def test_conversations_spread_over_all_servers() -> None:
    replicas = some(4)
    found = [replicas.choose(f"conversation {i}") for i in range(400)]
    assert all(60 < found.count(replica) < 140 for replica in replicas.every)


def test_without_a_server_the_refusal_says_so() -> None:
    replicas = some(2)
    with pytest.raises(BusyError, match="no server can write"):
        replicas.choose("a", but=replicas.every)
