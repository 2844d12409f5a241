"""The question that a person is offered next, with replies that are written while they judge.

What is prepared is in memory alone. Prompt and replies are stored together once the person asks, so
what nobody is shown is in no statistic, and a restart loses nothing; its tokens count then, too.
It is written while nobody waits for a reply, for one person at a time, and given up as soon as
somebody asks for one: people go first. It is shown as long as new replies come from the same
adapters in the same trial.

Which question comes is drawn by lot. If doubt may choose between replies to it (`choosing.py`), a
second question, to which that applies, is drawn as well, and one pair is chosen of all replies to
both. If it may not, in a trial or where votes evaluate, the question stays the next one, so these
come as often as if nothing were chosen.
"""

import asyncio
import itertools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chat_app.errors import ChatAppError
from chat_app.service.chat import ChatService
from chat_app.service.choosing import (
    ChosenReplies,
    DoubtedReplies,
    Pair,
    choose_of_all,
    doubts_of,
    may_choose,
)
from chat_app.service.replies import REDRAWS, Candidates, Draft, new_seed
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import PromptMessage, Trial

log = logging.getLogger(__name__)

MOST = 100  # people for whom something is prepared
TRIED = 3  # prompts, until one gets replies that differ
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class UnseenReplies:
    """Replies to a prompt that nobody has asked yet.

    Attributes:
        text: The prompt.
        replies: Those whose texts differ.
        trial_id: The trial that they belong to.
        choosing: Whether two of them are to be chosen.
        doubts: How uncertain each pair is, as far as the engine knows.
    """

    text: str
    replies: Sequence[Draft]
    trial_id: int | None
    choosing: bool
    doubts: Mapping[Pair, float]


@dataclass(slots=True, eq=False)
class NextQuestion:
    """What is prepared for one person.

    Attributes:
        n: How many replies are shown.
        opponent: Who writes half of them.
        adapter: Who wrote the others.
        trial: The one that was open.
        text: The first prompt, once it is drawn.
        found: Replies that are written; those to the first prompt come first.
        chosen: What is shown of them.
        offered: The person was told the prompt, so it does not change any more.
        wanted: They asked for it, so it does not give way.
        begun: Replies are being written, or were.
        tokens: What they cost.
        on_end: Called when a reply ends.
    """

    n: int
    opponent: str | None
    adapter: str
    trial: Trial | None
    text: str = ""
    found: list[UnseenReplies] = field(default_factory=list)
    chosen: tuple[UnseenReplies, ChosenReplies] | None = None
    offered: bool = False
    wanted: bool = False
    begun: bool = False
    tokens: int = 0
    on_end: Callable[[], None] = lambda: None
    task: asyncio.Task[None] | None = None

    def spent(self, tokens: int) -> None:
        """One reply has ended."""
        self.tokens += tokens
        self.on_end()

    async def ended(self) -> None:
        """Wait until nothing more is written; whoever is cancelled meanwhile ends that, too."""
        try:
            if self.task is not None:
                await asyncio.wait({self.task})
        finally:
            self.stop()

    def stop(self) -> None:
        """Write no more."""
        if self.task is not None:
            self.task.cancel()


class Prepared:
    """Prepares a question for each person; only `offered` may be called in any thread.

    Args:
        service: Its engine writes the replies.
        draw: Returns prompts for a person, in an order by lot.
        page: Where they are asked.
    """

    def __init__(
        self, service: ChatService, draw: Callable[[str], Sequence[str]], page: str
    ) -> None:
        self._service, self._draw, self._page = service, draw, page
        self._next = OrderedDict[str, NextQuestion]()  # by rater
        self._turn = asyncio.Lock()  # one person's replies at a time
        self._choosing = threading.Lock()

    def begin(self, rater_id: str, n: int, opponent: str | None) -> None:
        """Prepare a person's next question, in place of any other."""
        self.drop(rater_id)
        service = self._service
        found = NextQuestion(n, opponent, service.adapter, service.trial)
        found.task = asyncio.create_task(self._prepare(rater_id, found))
        self._next[rater_id] = found
        while len(self._next) > MOST:
            self.drop(next(iter(self._next)))

    def offered(self, rater_id: str) -> str | None:
        """The prompt to offer a person next, if there is one; it stays that one from now on."""
        with self._choosing:
            found = self._next.get(rater_id)
            if found is None or not self._fits(found):
                return None
            found.offered = True
            _settle(found, share=self._service.settings.active_share)
            return found.chosen[0].text if found.chosen else found.text or None

    def take(self, rater_id: str, text: str, n: int, opponent: str | None) -> NextQuestion | None:
        """What is written, or being written, for a prompt that a person asks now.

        Anything else that is prepared for them is dropped.
        """
        offered, found = self.offered(rater_id), self._next.get(rater_id)
        if found is None or (offered, found.n, found.opponent) != (text, n, opponent):
            self.drop(rater_id)
            return None
        if found.chosen is None and (found.task is None or found.task.done() or not found.begun):
            self.drop(rater_id)
            return None
        found.wanted = True
        return self._next.pop(rater_id)

    def keep(self, rater_id: str, found: NextQuestion) -> Candidates | None:
        """Store the prompt and the replies that are shown, now that nothing more is written.

        Returns None if there are none that differ, they come from another adapter by now, or the
        person has erased everything meanwhile.
        """
        if not self._fits(found):
            return None
        _settle(found, share=self._service.settings.active_share)
        if found.chosen is None:
            return None
        unseen, shown = found.chosen
        service = self._service
        with service.store.together():
            if not service.knows(rater_id):
                return None
            service.visitor(rater_id)  # refuses who is about to be erased
            said = service.ask(rater_id, unseen.text, page=self._page)
            replies = [unseen.replies[place] for place in shown.places]
            kept = service.replies.keep(
                said, replies, rater_id=rater_id, trial_id=unseen.trial_id, shown=shown
            )
        service.rates.tokens(rater_id, found.tokens)
        return kept

    def drop(self, rater_id: str) -> None:
        """Prepare nothing for a person any more."""
        found = self._next.pop(rater_id, None)
        if found is not None:
            found.stop()

    async def close(self) -> None:
        """Stop all of it, when the server stops."""
        tasks = [found.task for found in self._next.values() if found.task is not None]
        for rater_id in list(self._next):
            self.drop(rater_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    # Inside

    def _fits(self, found: NextQuestion) -> bool:
        """Whether somebody who asks now would get replies from the same adapters."""
        service = self._service
        writers = (service.adapter, service.trial)
        there = found.opponent is None or found.opponent in service.opponents
        return service.ready and there and writers == (found.adapter, found.trial)

    async def _prepare(self, rater_id: str, found: NextQuestion) -> None:
        """Wait for a calm moment and write; whatever goes wrong, the person asks as ever."""
        try:
            texts = await asyncio.to_thread(self._draw, rater_id)
            found.text = texts[0] if texts else ""
            async with self._turn:
                while not self._service.rates.calm:
                    await asyncio.sleep(LOOK_S)
                await self._write_unless_asked(rater_id, found, texts)
        except (ChatAppError, FeedbackStoreError) as exc:
            log.info("no question is prepared: %s", exc)
        except Exception:
            log.exception("no question is prepared")

    async def _write_unless_asked(
        self, rater_id: str, found: NextQuestion, texts: Sequence[str]
    ) -> None:
        """Write until somebody else asks for replies, or what comes later is chosen no more."""
        found.begun = True
        writing = asyncio.create_task(self._write(rater_id, found, texts))
        try:
            while not writing.done():
                await asyncio.wait({writing}, timeout=LOOK_S)
                if found.offered and found.found:
                    return
                if not (found.wanted or self._service.rates.calm):
                    return
            writing.result()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, rater_id: str, found: NextQuestion, texts: Sequence[str]) -> None:
        """Write replies to the first prompt that gets different ones, then to its rival."""
        rest = iter(texts)
        for text in itertools.islice(rest, TRIED):
            if found.offered and text != found.text:
                return
            found.text = text
            first = await self._unseen(rater_id, text, found)
            if len(first.replies) > 1:
                found.found.append(first)
                break
        if found.offered or not found.found or not found.found[0].choosing:
            return
        for text in rest:
            if may_choose(rater_id, _prompt(text)):
                rival = await self._unseen(rater_id, text, found, rival=True)
                if rival.choosing and len(rival.replies) > 1:
                    found.found.append(rival)
                return

    async def _unseen(
        self, rater_id: str, text: str, found: NextQuestion, *, rival: bool = False
    ) -> UnseenReplies:
        """Replies to a prompt; a rival belongs to no trial, or lots would not decide on that."""
        service = self._service
        request = service.request_of(rater_id, service.unstored(_prompt(text)))
        writers, trial_id = [service.adapter] * found.n, None
        if not rival:
            writers, trial_id = service.sides(found.n, found.opponent)
        choosing = trial_id is None and found.opponent is None
        choosing = choosing and service.doubts_choose(request, rater_id, found.n)
        if choosing:
            writers = [service.adapter] * service.settings.active_samples
        requests = [replace(request, adapter=name, seed=new_seed()) for name in writers]
        # Of two that are the same another prompt may get different ones; of more, all are wanted.
        redraws = REDRAWS if len(requests) > 2 and not choosing and trial_id is None else 0
        replies = await service.replies.drafts(requests, spent=found.spent, redraws=redraws)
        doubts: Mapping[Pair, float] = {}
        if choosing and len(replies) > 1:
            read = [draft.text for draft in replies]
            doubts = await doubts_of(service.engine, request.prompt, read)
        return UnseenReplies(text, replies, trial_id, choosing, doubts)


def _settle(found: NextQuestion, *, share: float) -> None:
    """Choose what is shown of all that is written, once."""
    if found.chosen is not None or not found.found:
        return
    unseen = list(found.found)
    first = unseen[0]
    if len(unseen) == 1 and (not first.choosing or len(first.replies) == 2):
        found.chosen = first, ChosenReplies(tuple(range(len(first.replies))))
        return
    doubted = [DoubtedReplies(len(one.replies), one.doubts) for one in unseen]
    at, shown = choose_of_all(doubted, share=share)
    found.chosen = unseen[at], shown


def _prompt(text: str) -> list[PromptMessage]:
    return [PromptMessage(role="user", content=text)]
