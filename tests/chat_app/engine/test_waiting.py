"""Who gets the next row: by length, by patience, and no source more than its share."""

import asyncio
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from chat_app.engine import GenerationRequest, Sampling
from chat_app.engine.local import LocalEngine
from chat_app.engine.measures import Measures
from chat_app.engine.waiting import RECENT_S, Ticket, Waiting
from chat_app.settings import EngineSettings
from feedback_store.records import PromptMessage
from tests.chat_app.serving import tiny_base

HELLO = (PromptMessage(role="user", content="hello"),)


def asked(source: str, *, tokens: int = 8) -> GenerationRequest:
    return GenerationRequest(HELLO, "policy-000000", Sampling(1.0, 1.0, tokens), 0, source=source)


def tickets(*sources: str) -> list[Ticket]:
    """Tickets whose prompts are encoded, each one longer than the one before."""

    async def make() -> list[Ticket]:
        return [Ticket(asked(source), deadline=0.0, measures=Measures()) for source in sources]

    made = asyncio.run(make())
    for n, ticket in enumerate(made):
        ticket.ids, ticket.turn = [1] * n, float(n)
    return made


def waiting_of(found: list[Ticket], *, rows: int, seconds: list[float] | None = None) -> Waiting:
    clock = seconds or [0.0]
    waiting = Waiting(rows, now=lambda: clock[0])
    for ticket in found:
        waiting.add(ticket)
    return waiting


def test_a_source_alone_has_all_rows() -> None:
    waiting = waiting_of(tickets(*["ann"] * 9), rows=8)
    assert [len(ticket.ids or []) for ticket in waiting.encoded()] == list(range(8))


def test_two_sources_have_half_of_the_rows_each_whoever_came_first() -> None:
    many = tickets(*["mallory"] * 9, "ann")
    waiting = waiting_of(many, rows=8)
    assert waiting.encoded() == [*many[:4], many[9]]
    assert waiting.encoded(many[:3]) == [many[0], many[9]], "one more beside the three with rows"


def test_a_share_is_kept_free_for_a_minute_for_those_who_asked() -> None:
    seconds = [0.0]
    many = tickets("ann", "bob", "eve", *["mallory"] * 9)
    waiting = waiting_of(many, rows=8, seconds=seconds)
    for others in many[:3]:
        waiting.remove(others)
    assert len(waiting.encoded()) == 4, "for all of them together"
    seconds[0] = RECENT_S + 1
    waiting.add(many[3])
    assert len(waiting.encoded()) == 8


def test_a_prompt_that_is_not_encoded_yet_waits() -> None:
    (ticket,) = tickets("ann")
    ticket.ids = None
    assert waiting_of([ticket], rows=8).encoded() == []


@given(st.lists(st.sampled_from("abcdefghijkl"), max_size=60), st.integers(1, 32))
def test_nobody_has_more_than_a_share_and_everybody_is_next(sources: list[str], rows: int) -> None:
    waiting = waiting_of(tickets(*sources), rows=rows)
    found = Counter(ticket.request.source for ticket in waiting.encoded())
    assert set(found) == set(sources)
    share = max(rows // max(1, len(found)), int(rows / 8), 1)
    assert all(n == min(share, sources.count(source)) for source, n in found.items())


def test_one_reply_does_not_wait_for_the_long_ones_of_another_source(
    tiny_model: Path, engine_settings: EngineSettings
) -> None:
    engine = LocalEngine(lambda: tiny_base(tiny_model), engine_settings, key=None)
    ended: list[str] = []

    async def ask(source: str, tokens: int) -> None:
        async for _ in engine.stream(asked(source, tokens=tokens)):
            pass
        ended.append(source)

    async def scenario() -> None:
        await ask("ann", 1)
        many = engine_settings.rows + engine_settings.waiting - 2
        others = [asyncio.create_task(ask("mallory", 40)) for _ in range(many)]
        while engine.health()["waiting"] + engine.health()["rows"] < many:
            await asyncio.sleep(0)
        await ask("ann", 8)
        assert len(ended) == 2, "none of the others has ended"
        await asyncio.gather(*others)

    try:
        asyncio.run(scenario())
    finally:
        engine.close()


def test_who_gives_up_before_there_is_a_row_is_counted_with_the_time_that_they_waited() -> None:
    measures = Measures()

    async def scenario() -> None:
        for has_row in (False, True):
            ticket = Ticket(asked("a"), deadline=0.0, measures=measures)
            if has_row:
                ticket.begin()
            ticket.leave()
            ticket.leave()

    asyncio.run(scenario())
    found = {
        sample.name: sample.value
        for metric in measures.collect()
        for sample in metric.samples
        if sample.labels.get("finish_reason", "cancelled") == "cancelled"
    }
    assert found["feedback_chat_replies_total"] == 2
    assert found["feedback_chat_queue_seconds_count"] == 2
