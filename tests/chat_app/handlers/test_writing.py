"""A reply while it is written: how often its readers hear of it, and what they hear."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import pairwise
from typing import TypeVar

import pytest

from chat_app.handlers.writing import UPDATE_S, Writing
from chat_app.service.replies import CandidatePiece, ReplyPiece

Result = TypeVar("Result")


def piece(text: str, *, stored: bool = True) -> ReplyPiece:
    return ReplyPiece("reply", "policy-000000", text, stored=stored)


def writing(*, two: bool = False) -> Writing:
    return Writing("ann", "conversation", "prompt", two=two)


async def heard(one: Writing) -> list[dict[str, str]]:
    return [added async for added in one.follow()]


def timed(pieces: int, gap: float) -> AsyncGenerator[ReplyPiece, None]:
    async def come() -> AsyncGenerator[ReplyPiece, None]:
        for number in range(pieces):
            yield piece(f"{number} ")
            await asyncio.sleep(gap)

    return come()


def within(scenario: Callable[[], Awaitable[Result]]) -> Result:
    """Run a scenario that must not wait for ever."""

    async def limited() -> Result:
        return await asyncio.wait_for(scenario(), 20)

    return asyncio.run(limited())


def test_readers_hear_at_most_ten_times_a_second_and_the_first_words_at_once() -> None:
    async def scenario() -> tuple[list[float], str]:
        one, times, said = writing(), list[float](), ""
        one.start(timed(100, 0.01))
        async for added in one.follow():
            times.append(time.monotonic())
            said += added["a"]
        return times, said

    started = time.monotonic()
    times, said = within(scenario)
    assert said == "".join(f"{number} " for number in range(100))
    assert 3 <= len(times) <= 2 + (times[-1] - started) / UPDATE_S
    assert all(later - earlier >= 0.9 * UPDATE_S for earlier, later in pairwise(times))


def test_the_first_words_wait_for_nothing_however_late_they_come() -> None:
    async def late(words: asyncio.Event) -> AsyncGenerator[ReplyPiece, None]:
        await words.wait()
        yield piece("at last")
        await asyncio.Event().wait()

    async def scenario() -> int:
        one, words, turns = writing(), asyncio.Event(), 0
        one.start(late(words))
        first = asyncio.ensure_future(anext(one.follow()))
        await asyncio.sleep(0.01)
        words.set()
        while not first.done():  # each turn of the loop takes no time: nobody sleeps
            await asyncio.sleep(0)
            turns += 1
        assert first.result() == {"a": "at last"}
        one.stop()
        await one.ended()
        return turns

    assert within(scenario) < 20


def test_each_reader_hears_everything_once_whenever_it_comes() -> None:
    async def scenario() -> list[list[dict[str, str]]]:
        one = writing()
        one.start(timed(30, 0.01))
        early = [asyncio.create_task(heard(one)) for _ in range(2)]
        await asyncio.sleep(0.15)
        middle = asyncio.create_task(heard(one))
        await one.ended()
        return [*[await reader for reader in (*early, middle)], await heard(one)]

    readers = within(scenario)
    for reader in readers:
        assert "".join(added["a"] for added in reader) == "".join(f"{n} " for n in range(30))
        assert all(added["a"] for added in reader), "a piece that adds nothing is not told"
    assert len(readers[-1]) == 1, "who comes last gets all at once"
    assert len(readers[2][0]["a"].split()) > 1, "who comes late begins with all so far"


def test_a_reader_who_leaves_or_is_slow_holds_up_nobody() -> None:
    async def scenario() -> tuple[str, str]:
        one, slow = writing(), ""
        one.start(timed(20, 0.01))
        leaving = one.follow()
        await anext(leaving)
        await leaving.aclose()
        async for added in one.follow():
            slow += added["a"]
            await asyncio.sleep(0.3)
        return slow, one.texts["a"]

    slow, whole = within(scenario)
    assert slow == whole and len(whole.split()) == 20


def test_two_replies_are_told_by_label() -> None:
    async def come() -> AsyncGenerator[CandidatePiece, None]:
        for label, text in (("b", "x"), ("a", "1"), ("b", "y"), ("a", "2"), ("b", "")):
            yield CandidatePiece(label, text)
            await asyncio.sleep(0.01)

    async def scenario() -> list[dict[str, str]]:
        one = writing(two=True)
        one.start(come())
        return await heard(one)

    pieces = within(scenario)
    assert {label: "".join(p[label] for p in pieces) for label in "ab"} == {"a": "12", "b": "xy"}


def test_a_failure_is_known_as_soon_as_the_reply_has_ended() -> None:
    async def come() -> AsyncGenerator[ReplyPiece, None]:
        yield piece("some")
        raise ValueError("the engine broke")

    async def scenario() -> list[bool]:
        one = writing()
        task = one.start(come())
        seen = []
        while not one.done:
            await asyncio.sleep(0)
            seen.append((one.done, one.failure is not None))
        assert task.done() and str(one.failure) == "the engine broke"
        assert await heard(one) == [{"a": "some"}]
        return [done == failed for done, failed in seen]

    assert all(within(scenario)), "there is no moment in which it has ended well"


def test_a_failure_is_in_the_log_once_however_many_ask_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def come() -> AsyncGenerator[ReplyPiece, None]:
        yield piece("some")
        raise ValueError("the engine broke")

    async def scenario() -> tuple[str, str]:
        one = writing()
        one.start(come())
        assert one.problem == "", "nothing went wrong yet"
        await one.ended()
        return one.problem, one.problem

    first, second = within(scenario)
    assert first == second != ""
    assert len(caplog.records) == 1


def test_a_stop_ends_the_reply_and_its_pieces_and_is_no_failure() -> None:
    closed: list[str] = []

    async def come() -> AsyncGenerator[ReplyPiece, None]:
        try:
            yield piece("so far")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)  # as long as storing takes
            closed.append("stored")

    async def scenario() -> tuple[list[dict[str, str]], BaseException | None]:
        one = writing()
        one.start(come())
        reader = asyncio.create_task(heard(one))
        await asyncio.sleep(0.02)
        one.stop()
        await one.ended()
        assert closed == ["stored"] and one.done
        return await reader, one.failure

    assert within(scenario) == ([{"a": "so far"}], None)


@pytest.mark.parametrize("cancel", ["reader", "waiter"])
def test_whoever_waits_for_a_reply_and_is_gone_ends_nothing(cancel: str) -> None:
    async def scenario() -> tuple[str, BaseException | None]:
        one = writing()
        one.start(timed(10, 0.01))
        waiting = asyncio.ensure_future(heard(one) if cancel == "reader" else one.ended())
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait({waiting})
        await one.ended()
        return one.texts["a"], one.failure

    text, failure = within(scenario)
    assert len(text.split()) == 10 and failure is None


@pytest.mark.parametrize(("conversation_id", "stored"), [("", True), ("c", False), ("c", True)])
def test_a_reply_is_lost_if_its_message_or_itself_is_not_stored(
    conversation_id: str, stored: bool
) -> None:
    async def come() -> AsyncGenerator[ReplyPiece, None]:
        yield piece("one")
        yield piece("", stored=stored)

    async def scenario() -> bool:
        one = Writing("ann", conversation_id, "prompt", two=False)
        one.start(come())
        await one.ended()
        assert one.texts == {"a": "one"}
        return one.lost

    assert within(scenario) == (not conversation_id or not stored)
