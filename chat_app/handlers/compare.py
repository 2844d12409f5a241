"""The page Compare: one prompt, two to nine blind replies, and what the person says of them.

A task writes the replies, so they are stored even if the tab is closed; `follow` waits for them,
and `opened` shows them again until they are judged or skipped. While the person judges them, the
question that is suggested next gets its replies (`service/prepared.py`). Invariants: nobody learns
who wrote a reply before their judgement is stored, and a judgement that is stored here does not
change any more: it may be taken back, and then nobody judges these replies anew. A vote needs the
person's consent, and without it nothing is stored. Skipping stores nothing.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from chat_app.cycles.round_ahead import RoundAhead
from chat_app.errors import InvalidRequestError, RefusedError
from chat_app.handlers.compare_views import (
    BeingWritten,
    BlindReplies,
    CompareView,
    Judged,
    OtherAuthor,
    Written,
    authors_of,
    blind_of,
)
from chat_app.handlers.suggestions import suggested
from chat_app.handlers.versions import named
from chat_app.handlers.views import error_text
from chat_app.service.chat import ChatService, Room
from chat_app.service.prepared import NextQuestion, Prepared
from chat_app.service.rates import Latest
from chat_app.service.replies import Candidates
from chat_app.service.voting import REASONS
from feedback_store.errors import say
from feedback_store.records import BASE_ADAPTER, Message

PAGE = "compare"
SUGGESTIONS = 4
DRAWN = 8  # of which one is prepared: some get the same reply twice
STRENGTHS = (1.0, 2.0, 3.0)  # slightly, clearly, much better
FOLLOW_S = 8.0  # a call waits so long for news; proxies cut off what takes much longer
LOOK_S = 0.1
STILL_WRITING = say("Your last replies are still being written. Wait for them, or stop them.")


@dataclass(slots=True)
class _Run:
    """Replies that a task writes, or wrote while nobody looked."""

    prompt: str
    n: int
    done: int = 0
    task: asyncio.Task[None] | None = None
    ended: bool = False
    shown_id: str = ""
    alike: str | None = None
    problem: Exception | None = None

    def count(self) -> None:
        """One more has ended; what is generated again does not count twice."""
        self.done = min(self.n, self.done + 1)

    def end(self, room: Room) -> None:
        """Nothing more comes, so nothing needs room."""
        room()
        self.ended = True

    def shows(self, candidates: Candidates) -> None:
        """These are stored."""
        self.shown_id, self.alike = candidates.id, candidates.messages[0].content

    def facts(self) -> BeingWritten:
        """How far it is."""
        return BeingWritten(self.prompt, self.n, self.done)


class Compare:
    """What a person can do on the page; ``rater_id`` comes from the signed cookie."""

    def __init__(self, service: ChatService) -> None:
        self._service = service
        self._runs = Latest[_Run]()  # by rater
        self._skipped = Latest[None]()  # ids of candidates
        self._rng = random.Random()
        self._ahead = Prepared(service, lambda rater_id: self.others(rater_id, DRAWN), PAGE)

    @property
    def most(self) -> int:
        """The most replies to one prompt, which the engine decodes together."""
        settings = self._service.settings
        return max(2, min(settings.limits.candidates, settings.engine.rows))

    def opened(self, rater_id: str) -> CompareView:
        """The page as it is for a person now."""
        run, service = self._runs.get(rater_id), self._service
        versions = service.store.versions()
        writing = run.facts() if run is not None and not run.ended else None
        shown = None if writing else self._open_one(rater_id)
        judging = writing is not None or shown is not None
        return CompareView(
            most=self.most,
            consented=service.consented(rater_id),
            markdown=service.settings.shows_markdown,
            suggestions=self.others(rater_id) if judging else self.suggestions(rater_id),
            reasons=REASONS,
            opponents=tuple(
                OtherAuthor(name, named(versions, name), name == BASE_ADAPTER)
                for name in service.opponents
            ),
            writing=writing,
            shown=shown,
        )

    def suggestions(self, rater_id: str) -> tuple[str, ...]:
        """What the person may ask next; the first is what was prepared, if something was."""
        first, others = self._ahead.offered(rater_id), self.others(rater_id)
        if first is None:
            return others
        return (first, *(text for text in others if text != first))[:SUGGESTIONS]

    def others(self, rater_id: str, n: int = SUGGESTIONS) -> tuple[str, ...]:
        """Prompts that the person has not asked here yet, drawn by lot."""
        asked = {told.title for told in self._service.conversations(rater_id, page=PAGE)}
        starter = self._service.settings.is_starter
        return suggested(n, starter=starter, asked=asked, rng=self._rng)

    def round_ahead(self) -> RoundAhead:
        """The next training round, with the votes of about this moment."""
        return self._service.round_ahead.get()

    # Asking

    async def ask(self, rater_id: str, text: str, n: int, opponent: str | None) -> Written:
        """Begin to write the replies to a prompt; `follow` tells how they get on.

        If they were prepared, they are stored with their prompt and shown at once.

        Raises:
            InvalidRequestError: The prompt, the number or the opponent is not possible.
            RefusedError: Others are still being written for the person.
        """
        before = self._runs.get(rater_id)
        if before is not None and not before.ended:
            raise RefusedError(STILL_WRITING)
        if not 2 <= n <= self.most:
            raise InvalidRequestError(
                say("{given} replies; choose from 2 to {most}", given=n, most=self.most)
            )
        if opponent is not None and opponent not in self._service.opponents:
            raise InvalidRequestError(
                say("This opponent is not there any more; choose another one.")
            )
        run = self._runs[rater_id] = _Run(text.strip(), n)  # a second click finds it
        ready, said, at_once = None, None, False
        try:
            await asyncio.to_thread(self._service.visitor, rater_id)  # later it makes nobody anew
            ready = self._ahead.take(rater_id, run.prompt, n, opponent)
            room = await self._service.room_to_answer(rater_id, text, n=n)
            try:
                if ready is None:
                    said = await asyncio.to_thread(self._store, rater_id, text)
                elif ready.chosen is not None:
                    at_once = await self._show(run, rater_id, ready)
            except BaseException:
                room()
                raise
        except BaseException:
            run.ended = True
            self._forget(rater_id, run)
            if ready is not None:
                ready.stop()
            raise
        if at_once:
            run.end(room)
            self._ahead.begin(rater_id, n, opponent)
            return await self.follow(rater_id, 0)
        writing = self._write(run, rater_id, said, opponent, room, ready)
        run.task = asyncio.create_task(writing)
        run.task.add_done_callback(lambda _: run.end(room))  # also if it is stopped before it began
        return Written(run.facts())

    async def follow(self, rater_id: str, seen: int) -> Written:
        """What became of the person's last prompt; it waits a while for more than ``seen`` ends."""
        run = self._runs.get(rater_id)
        if run is None:
            return Written(shown=await asyncio.to_thread(self._open_one, rater_id))
        for _ in range(int(FOLLOW_S / LOOK_S)):
            if run.ended or run.done > seen:
                break
            await asyncio.sleep(LOOK_S)
        if not run.ended:
            return Written(run.facts())
        self._forget(rater_id, run)
        if run.problem is not None:
            raise run.problem
        if not run.shown_id:
            return Written(alike=run.alike)
        return Written(shown=await asyncio.to_thread(self._blind, rater_id, run.shown_id))

    async def stop(self, rater_id: str) -> None:
        """Stop the replies that are being written for the person; none of them is stored."""
        run = self._runs.get(rater_id)
        if run is not None and run.task is not None:
            run.task.cancel()
            await asyncio.wait({run.task})
            self._forget(rater_id, run)

    async def close(self) -> None:
        """Stop all replies, when the server stops."""
        for rater_id in list(self._runs):
            await self.stop(rater_id)
        await self._ahead.close()

    # Judging

    def choose(
        self,
        rater_id: str,
        candidates_id: str,
        choice: str,
        *,
        strength: float | None = None,
        seconds: float | None = None,
        agree: bool = False,
    ) -> Judged:
        """Say which of two replies is better; ``agree`` accepts the notice before."""
        if strength not in (None, *STRENGTHS):
            raise InvalidRequestError(
                say(
                    "a strength of {given}; choose from {choices}",
                    given=strength,
                    choices=", ".join(map(str, STRENGTHS)),
                )
            )
        strength = strength if choice in ("a", "b") else None

        def store() -> str:
            """Store the choice."""
            made, _ = self._service.choose(
                rater_id, candidates_id, choice, strength=strength, seconds=seconds
            )
            return made.id

        return self._judge(rater_id, candidates_id, store, agree=agree)

    def rank(
        self,
        rater_id: str,
        candidates_id: str,
        order: Sequence[Sequence[str]],
        *,
        agree: bool = False,
    ) -> Judged:
        """Put all replies in an order, best first, ties in one group."""

        def store() -> str:
            """Store the order."""
            return self._service.rank(rater_id, candidates_id, order).id

        return self._judge(rater_id, candidates_id, store, agree=agree)

    def skip(self, rater_id: str, candidates_id: str) -> tuple[str, ...]:
        """Show these replies no more, and store nothing; returns what to ask next."""
        self._service.candidates_of(rater_id, candidates_id)
        self._skipped[candidates_id] = None
        return self.suggestions(rater_id)

    # Inside

    def _judge(
        self, rater_id: str, candidates_id: str, store: Callable[[], str], *, agree: bool
    ) -> Judged:
        """Store a judgement with the consent to it, both or neither, unless there is one."""
        shown = self._service.candidates_of(rater_id, candidates_id)
        with self._service.store.together():  # two tabs may judge at once; one of them is first
            if agree:
                self._service.consent(rater_id, given=True)
            if not self._service.consented(rater_id):
                return Judged(saved=False)
            earlier = self._service.store.judged(candidates_id, rater_id)
            vote = "" if earlier else store()
        authors = authors_of(shown, self._service.store.versions())
        vote = vote if authors else ""  # no model wrote the replies of a test, which stays
        told = Judged(True, earlier, authors, vote=vote, suggestions=self.suggestions(rater_id))
        return replace(told, asked=self._asked(rater_id))

    def _asked(self, rater_id: str) -> BlindReplies | None:
        """One more pair that the person is to judge, if one is due."""
        try:
            found = self._service.next_comparison(rater_id)
        except Exception as exc:
            error_text(exc)  # for the log alone: the person's own vote is stored
            return None
        return None if found is None else blind_of(*found)

    def _open_one(self, rater_id: str) -> BlindReplies | None:
        """The replies that the person got here last, unless they were judged or skipped."""
        found = self._service.store.latest_candidates(rater_id, PAGE)
        if found is None or found in self._skipped:
            return None
        if self._service.store.judged(found, rater_id):
            return None
        return self._blind(rater_id, found)

    def _blind(self, rater_id: str, candidates_id: str) -> BlindReplies:
        shown = self._service.candidates_of(rater_id, candidates_id)
        return blind_of(self._service.store.path(str(shown.messages[0].parent_id)), shown)

    def _store(self, rater_id: str, text: str) -> Message:
        with self._service.store.together():
            if not self._service.knows(rater_id):
                raise RefusedError(
                    say("You have erased everything meanwhile, so this is not stored.")
                )
            self._service.visitor(rater_id)  # refuses who is about to be erased
            return self._service.ask(rater_id, text, page=PAGE)

    async def _write(
        self,
        run: _Run,
        rater_id: str,
        said: Message | None,
        opponent: str | None,
        room: Room,
        ready: NextQuestion | None,
    ) -> None:
        """Write the replies to their end, whoever looks, and prepare what comes next."""
        try:
            if ready is None or not await self._show(run, rater_id, ready):
                if said is None:  # nothing was prepared in the end
                    said = await asyncio.to_thread(self._store, rater_id, run.prompt)
                pieces = self._service.candidates(
                    rater_id, [said], n=run.n, room=room, opponent=opponent, on_end=run.count
                )
                async with aclosing(pieces) as arriving:
                    async for piece in arriving:
                        if piece.candidates is not None:
                            run.shows(piece.candidates)
            self._ahead.begin(rater_id, run.n, opponent)
        except Exception as exc:
            run.problem = exc

    async def _show(self, run: _Run, rater_id: str, ready: NextQuestion) -> bool:
        """Store what is prepared once it is written; returns whether there is something."""
        ready.on_end = run.count
        await ready.ended()
        kept = await asyncio.to_thread(self._ahead.keep, rater_id, ready)
        if kept is not None:
            run.shows(kept)
        return kept is not None

    def _forget(self, rater_id: str, run: _Run) -> None:
        if self._runs.get(rater_id) is run:
            del self._runs[rater_id]
