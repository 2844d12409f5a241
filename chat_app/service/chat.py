"""What a visitor can do, written once: the HTTP API and the pages both call `ChatService`.

`ask` stores a visitor's message, `continue_dialogue` a whole dialogue; `reply` and `candidates`
answer the path down to a message. A second reply to the same message is a retry; an edit is a new
`ask` with the parent of the old message. Votes on replies are in `voting.py`. Invariants: raters
reach only their own conversations (for others: `NotFoundError`), and a reply keeps the adapter it
began with, which its row names.

`reply`, `candidates` and the checks are asynchronous. All other methods are short, thread-safe
and blocking, so an event loop calls them through a thread. This module does not know HTTP,
cookies, Gradio or torch.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from chat_app.cycles.round_ahead import RoundWatch
from chat_app.cycles.scheduler import CycleProcess
from chat_app.cycles.status import status_of
from chat_app.cycles.trials import share_of
from chat_app.engine import Engine, GenerationRequest, Sampling
from chat_app.errors import BusyError, InvalidRequestError, TooLongError, TooManyError
from chat_app.service import promotion
from chat_app.service.choosing import LOT, choose, may_choose
from chat_app.service.gold_file import read_gold
from chat_app.service.limits import check_messages, check_number, check_sampling, check_text
from chat_app.service.rates import Latest, Rates
from chat_app.service.replies import CandidatePiece, Replies, ReplyPiece, new_seed
from chat_app.service.voting import Voting, not_found
from chat_app.settings import Settings
from feedback_store.errors import UnknownRecordError, say
from feedback_store.feedback.messages import prompt_of, without_empty_replies
from feedback_store.records import (
    BASE_ADAPTER,
    Conversation,
    ConversationView,
    Cycle,
    Message,
    PromptMessage,
    Rater,
    Serving,
    Trial,
)
from feedback_store.store import FeedbackStore

TITLE_CHARS = 80
TOKEN_CHARS = 4  # of a token, about, for what is counted before it is encoded
Room = Callable[[], None]  # for a reply that is to come; a call gives it back
AnyPiece = TypeVar("AnyPiece", ReplyPiece, CandidatePiece)


class ChatService(Voting):
    """The rules of chatting over one store and one engine, with those of voting."""

    def __init__(
        self, store: FeedbackStore, engine: Engine, settings: Settings, *, cycles: CycleProcess
    ) -> None:
        self.store = store
        self.engine = engine
        self.settings = settings
        self.cycles = cycles
        self.replies = Replies(store, engine)
        self._gold = read_gold(settings.gold_items, settings.limits) if settings.gold_items else ()
        test = settings.screening.items
        self._test = read_gold(test, settings.limits, named="screening.items") if test else ()
        room = settings.engine.rows + settings.engine.waiting
        self.rates = Rates(settings.rates, room=room)
        self.round_ahead = RoundWatch(store, settings.schedule)
        # from where new raters come; a page stores them in an event that knows no address
        self.origins = Latest[str | None]()
        self.adapter = BASE_ADAPTER  # of new replies; only the watcher sets it
        self.ready = False  # whether that adapter is loaded; only the watcher sets it
        self.trial: Trial | None = None  # whose adapters are loaded; only the watcher sets it
        self.opponents: tuple[str, ...] = ()  # who may be compared with; only the watcher sets it

    @property
    def default_sampling(self) -> Sampling:
        """The sampling settings of a request that names none."""
        reply = self.settings.reply
        return Sampling(reply.temperature, reply.top_p, reply.tokens)

    # Raters

    def visitor(self, rater_id: str, *, kind: str = "person", consent: bool = False) -> Rater:
        """The rater of this id, made at the first visit; ``consent`` accepts the present notice."""
        consent_version = self.settings.consent_version if consent else None
        origin = self.origins.get(rater_id)
        return self.store.add_rater(rater_id, kind=kind, consent=consent_version, origin=origin)

    def knows(self, rater_id: str) -> bool:
        """Whether the rater has done something before."""
        try:
            self.store.rater(rater_id)
        except UnknownRecordError:
            return False
        return True

    def consented(self, rater_id: str) -> bool:
        """Whether the rater has accepted the notice in its present version."""
        try:
            return self.store.rater(rater_id).consent == self.settings.consent_version
        except UnknownRecordError:
            return False

    def consent(self, rater_id: str, *, given: bool) -> None:
        """Accept the notice in its present version, or take the consent back: always possible."""
        self.visitor(rater_id, consent=given)
        if not given:
            self.store.set_consent(rater_id, None)

    def trains(self, rater_id: str) -> bool:
        """Whether what the rater says may train the model."""
        rater = self.store.rater(rater_id)
        return rater.kind != "person" or rater.consent is not None

    # Conversations

    def conversations(
        self, rater_id: str, query: str = "", *, page: str | None = None, limit: int | None = None
    ) -> list[Conversation]:
        """The rater's conversations, pinned ones first, then the last used; or those found.

        They are those of the chat, or with ``page`` of another page; at most ``limit``.
        """
        return self.store.conversations(rater_id, query, page=page, limit=limit)

    def conversation(
        self,
        rater_id: str,
        *,
        conversation_id: str | None = None,
        message_id: str | None = None,
        candidates_id: str | None = None,
    ) -> ConversationView:
        """One of the rater's conversations, by its id or by the id of something in it.

        Raises:
            NotFoundError: The rater has no such conversation.
        """
        with not_found():
            return self.store.conversation_view(
                rater_id,
                conversation_id=conversation_id,
                message_id=message_id,
                candidates_id=candidates_id,
            )

    def delete_conversation(self, rater_id: str, conversation_id: str) -> int:
        """Hide a conversation; returns how many votes count no longer. Counts as one vote."""
        self.rates.vote(rater_id)
        return self.store.delete_conversation(rater_id, conversation_id)

    def restore_conversation(self, rater_id: str, conversation_id: str) -> Conversation:
        """Undo that; counts as one vote."""
        self.rates.vote(rater_id)
        return self.store.restore_conversation(rater_id, conversation_id)

    def shows_candidates(self, turn: int) -> bool:
        """Whether the ``turn``-th user message of a conversation (from 1) gets two replies."""
        every = self.settings.candidates_every
        return every > 0 and turn % every == 0

    # Asking and answering

    def ask(
        self,
        rater_id: str,
        text: str,
        *,
        conversation_id: str | None = None,
        parent_id: str | None = None,
        page: str | None = None,
    ) -> Message:
        """Store a user message: in a new conversation, or in a known one after ``parent_id``.

        ``page`` is where a new one begins, if that is not the chat.

        Raises:
            InvalidRequestError: The text is empty or too long.
            NotFoundError: The conversation or parent is unknown, or another rater's.
        """
        check_text(text, self.settings.limits)
        with not_found():
            return self.store.add_dialogue(
                rater_id,
                [PromptMessage(role="user", content=text)],
                title=_title(text),
                conversation_id=conversation_id,
                parent_id=parent_id,
                page=page,
            )[0]

    async def room_to_answer(
        self, rater_id: str, text: str, above: Sequence[Message] = (), *, n: int = 1
    ) -> Room:
        """Check that a message after those above it can be answered, and keep room for n replies.

        Raises:
            InvalidRequestError: The text is empty or too long, or the chat template refuses it.
            BusyError: No reply is possible now.
            TooManyError: As for `reply`.
        """
        check_text(text, self.settings.limits)
        room = self.require_room(rater_id, n)
        try:
            asked = [*prompt_of(above), PromptMessage(role="user", content=text)]
            await self._check(asked, self.default_sampling)
        except BaseException:
            room()
            raise
        return room

    async def fits(self, text: str) -> int | None:
        """How many characters of a message can be answered; None if that is all of it.

        Of one that the model cannot read to its end it is about so many.
        """
        most = self.settings.limits.message_chars
        try:
            if text.strip():
                said = [PromptMessage(role="user", content=text[:most])]
                await self._check(said, self.default_sampling)
        except TooLongError as exc:
            return exc.fits
        return most if len(text) > most else None

    def require_room(self, rater_id: str, n: int = 1, *, chars: int = 0) -> Room:
        """Keep room for ``n`` replies, or refuse a request before it is stored.

        ``chars`` is how much text came with it: storing it costs something, however little of it
        the model reads. Call what is returned if no reply takes the room.

        Raises:
            BusyError: The model is being loaded, or too many requests are waiting.
            TooManyError: As for `reply`.
        """
        self._require_ready()
        room = self.rates.reserve(rater_id, n)
        self.rates.tokens(rater_id, chars // TOKEN_CHARS)
        return room

    async def check_dialogue(
        self,
        messages: Sequence[PromptMessage],
        sampling: Sampling | None = None,
        *,
        begun: str = "",
    ) -> None:
        """Check that the model can answer a dialogue, before it is stored.

        Raises:
            InvalidRequestError: As for `continue_dialogue`; or it does not fit the model, the chat
                template refuses it, or a sampling setting is out of range.
        """
        check_messages(messages, self.settings.limits)
        wanted = check_sampling(sampling or self.default_sampling, self.settings)
        await self._check(messages, wanted, begun)

    def continue_dialogue(self, rater_id: str, messages: Sequence[PromptMessage]) -> list[Message]:
        """Store the new messages of a dialogue that the caller sends; returns its whole path.

        Raises:
            InvalidRequestError: No messages, too many, a wrong role, or no user message at the end.
            BusyError: The model is being loaded; nothing was stored.
        """
        said = without_empty_replies(messages)
        check_messages(said, self.settings.limits)
        self._require_ready()
        title = _title(said[-1]["content"])
        return self.store.continue_dialogue(rater_id, messages, title=title)

    def stored_reply(self, rater_id: str, messages: Sequence[PromptMessage]) -> list[Message]:
        """The stored path of a dialogue that ends with a reply; empty if it is not stored whole.

        Only if the adapter of the reply is the served one may it go on and be stored: what somebody
        else began would pass for the adapter's.
        """
        path = self.store.stored_dialogue(rater_id, messages)
        return path if len(path) == len(messages) else []

    def retried(
        self, rater_id: str, reply_id: str, messages: Sequence[PromptMessage]
    ) -> list[Message]:
        """The stored path of a dialogue whose last reply the caller wants anew.

        Raises:
            InvalidRequestError: The reply answers another dialogue, or was cut off.
            NotFoundError: The caller has no such reply.
        """
        *path, reply = self.conversation(rater_id, message_id=reply_id).path(reply_id)
        asked = [(message.role, message.content.strip()) for message in path]
        if asked != [(message["role"], message["content"].strip()) for message in messages]:
            raise InvalidRequestError(
                say(
                    "retry_of {id} is no reply to these messages; send those that it answers",
                    id=repr(reply_id),
                )
            )
        if reply.finish_reason in ("cancelled", "error"):
            raise InvalidRequestError(
                say("retry_of {id} was cut off; leave retry_of out", id=repr(reply_id))
            )
        return path

    def unstored(self, messages: Sequence[PromptMessage]) -> list[Message]:
        """Messages that can be answered and are not kept: nobody wants it, or the disk is full."""
        now = datetime.now(UTC).isoformat()
        return [
            Message("", "", None, m["role"], m["content"], None, None, None, None, None, None, now)
            for m in without_empty_replies(messages)
        ]

    def reply(  # noqa: PLR0913 - what a client may say of a reply
        self,
        rater_id: str,
        path: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        retry_of: str | None = None,
        reply_id: str | None = None,
        client_message: str | None = None,
        begun: str = "",
        room: Room | None = None,
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Answer the user message at the end of a path; the last piece has the stored reply.

        The reply goes on with what has ``begun``, and ends before the first text of ``stop``.
        ``retry_of`` is the reply that the rater wants replaced: weak evidence against it.
        ``reply_id`` is the new one's id, if it is chosen already, and ``client_message`` what the
        client calls it. ``room`` is what `require_room` gave; it is given back when the reply ends.
        Closing the iterator early stops the decoding and stores the text so far as "cancelled".

        Raises:
            BusyError: The queue is full.
            TooManyError: Too much is written for the rater already, or was in a short time.
            InvalidRequestError: The conversation does not fit the model.
        """
        request = self.request_of(rater_id, path, sampling=sampling, seed=seed)
        request = replace(request, stop=tuple(stop), begun=begun)
        spent = partial(self.rates.tokens, rater_id)
        one = self.replies.one(
            path[-1],
            request,
            spent=spent,
            retry_of=retry_of,
            reply_id=reply_id,
            client_message=client_message,
        )
        return self._within(one, rater_id, 1, room)

    def candidates(
        self,
        rater_id: str,
        path: Sequence[Message],
        *,
        n: int = 2,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        room: Room | None = None,
        opponent: str | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> AsyncGenerator[CandidatePiece, None]:
        """Answer a user message with n blind replies; pieces of all labels come interleaved.

        They are stored together at the end. Closing the iterator early stores nothing, because a
        reply that was not shown in full is no evidence. Replies with the same text are generated
        again, and left out if they still repeat another. A single one left is an ordinary reply.
        While a trial is open, a share of the pairs shows one reply of each of its adapters. With
        the setting `choices` two may be chosen of more, and no text comes before all of it.

        Each ends before the first text of ``stop``. With ``opponent``, one of `opponents`, half of
        the replies come from that adapter, at places that lots draw; such replies belong to no
        trial. ``on_end`` is called when a reply ends.
        """
        check_number(n, self.settings.limits)
        if opponent is not None and opponent not in self.opponents:
            raise InvalidRequestError(
                say("{name} cannot be compared with; choose another one", name=repr(opponent))
            )
        request = self.request_of(rater_id, path, sampling=sampling)
        request = replace(request, stop=tuple(stop))
        written = self._side_by_side(path[-1], request, rater_id, n, opponent, on_end)
        return self._within(written, rater_id, n, room)

    async def _side_by_side(
        self,
        prompt: Message,
        request: GenerationRequest,
        rater_id: str,
        n: int,
        opponent: str | None,
        on_end: Callable[[], None] | None,
    ) -> AsyncGenerator[CandidatePiece, None]:
        """The replies of `candidates`, in the room that is kept for n of them."""
        adapters, trial_id = self.sides(n, opponent)
        alike = trial_id is None and opponent is None
        more = self._room_for_more(request, rater_id, n) if alike else None
        if more is not None:
            adapters = [self.adapter] * self.settings.active_samples
        requests = [replace(request, adapter=name, seed=new_seed()) for name in adapters]

        def spent(tokens: int) -> None:
            """Count what an ended reply has cost."""
            self.rates.tokens(rater_id, tokens)
            if on_end is not None:
                on_end()

        share = self.settings.active_share
        several = self.replies.several(
            prompt,
            requests,
            rater_id=rater_id,
            spent=spent,
            trial_id=trial_id,
            whole=n == 2 and self.settings.choices == "active",  # nobody sees how they were chosen
            choose=partial(choose, self.engine, request.prompt, share=share) if more else None,
        )
        try:
            async with aclosing(several) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            if more is not None:
                more()

    def _room_for_more(self, request: GenerationRequest, rater_id: str, n: int) -> Room | None:
        """Room for the replies that are sampled beside two; None if lots choose without them.

        Only when nobody has to wait for it: the first thing to go when many people ask.
        """
        if not self.doubts_choose(request, rater_id, n):
            return None
        try:
            return self.rates.reserve(rater_id, self.settings.active_samples - n)
        except (BusyError, TooManyError):
            return None

    def doubts_choose(self, request: GenerationRequest, rater_id: str, n: int) -> bool:
        """Whether doubt may choose n of more replies, if they belong to no trial."""
        return (
            (n, self.settings.choices) == (2, "active")
            and self.engine.doubting
            and bool(request.sampling.temperature)
            and may_choose(rater_id, request.prompt)
        )

    def sides(self, n: int, opponent: str | None = None) -> tuple[list[str], int | None]:
        """Whose replies are shown, from left to right, and the trial that this belongs to."""
        if opponent is not None:
            theirs = (n + LOT.randrange(2)) // 2  # of an odd number lots give one side more
            return LOT.sample([opponent] * theirs + [self.adapter] * (n - theirs), n), None
        trial = self.trial  # another thread sets it
        if n == 2 and trial is not None and LOT.random() < share_of(trial, self.settings.cycle):
            return LOT.sample((trial.adapter, trial.other), 2), trial.id
        return [self.adapter] * n, None

    def request_of(
        self,
        rater_id: str,
        path: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
    ) -> GenerationRequest:
        """What the engine is asked to answer the message at the end of a path.

        Raises:
            BusyError: The model is being loaded.
            InvalidRequestError: It is a reply, or a sampling setting is out of range.
        """
        self._require_ready()
        if path[-1].role != "user":
            raise InvalidRequestError(
                say("message {id} is a reply; answer a user's message", id=path[-1].id)
            )
        prompt = prompt_of(path)
        return GenerationRequest(
            prompt,
            self.adapter,
            check_sampling(sampling or self.default_sampling, self.settings),
            new_seed() if seed is None else seed % 2**63,
            self.settings.reply.system_name(prompt),
            self.rates.source(rater_id),
        )

    # For operators; the caller has checked that the request is an operator's

    def status(self) -> dict[str, Any]:
        """The document of `feedback-chat status --json`."""
        return status_of(self.store, self.settings.schedule)

    def recent_cycles(self, limit: int = 20) -> list[Cycle]:
        """The latest cycles, newest first."""
        return self.store.cycles(limit=limit)

    def start_cycle(self, *, by: str = "operator") -> int:
        """Start a cycle in a separate process and return its process id.

        Raises:
            RefusedError: A cycle is running.
        """
        pid = self.cycles.start()
        self.store.note_act("cycle_started", by=by, pid=pid)
        return pid

    def cancel_cycle(self, *, by: str = "operator") -> Cycle:
        """Cancel the running cycle; returns when its process is gone, within 25 seconds.

        Raises:
            RefusedError: No cycle is running.
        """
        return self.cycles.cancel(by=by)

    def promote(self, name: str, *, force: bool = False, by: str = "operator") -> Serving:
        """Serve a policy adapter, a rejected one by force; new replies use it within a second."""
        return promotion.promote(self.store, self.settings.data, name, force=force, by=by)

    def canary(self, name: str, *, force: bool = False, by: str = "operator") -> Trial:
        """Let people compare a policy adapter with the served one before it is served."""
        return promotion.canary(self.store, self.settings.data, name, force=force, by=by)

    def stop_trial(self, *, by: str = "operator") -> Trial:
        """Let people compare adapters no more; what is served stays."""
        return promotion.stop_trial(self.store, by=by)

    def rollback(self, *, by: str = "operator") -> promotion.RolledBack:
        """Serve the adapter that was served before this one; one that does not verify is skipped.

        Raises:
            RefusedError: There is none.
        """
        return promotion.roll_back(self.store, self.settings.data, by=by)

    # Inside

    async def _check(
        self, prompt: Sequence[PromptMessage], sampling: Sampling, begun: str = ""
    ) -> None:
        request = GenerationRequest(prompt, self.adapter, sampling, seed=0, begun=begun)
        await self.engine.check(request)

    async def _within(
        self,
        pieces: AsyncGenerator[AnyPiece, None],
        rater_id: str,
        n: int,
        room: Room | None,
    ) -> AsyncGenerator[AnyPiece, None]:
        """The pieces of replies, in the room that was kept for them or is found now."""
        room = room or self.rates.reserve(rater_id, n)
        try:
            async with aclosing(pieces) as arriving:
                async for piece in arriving:
                    yield piece
        finally:
            room()

    def _require_ready(self) -> None:
        """Refuse a request that cannot be answered yet, before it is stored."""
        if not self.ready:
            raise BusyError(say("the model is still being loaded; try again in a moment"))


def _title(text: str) -> str:
    return text.strip().splitlines()[0][:TITLE_CHARS]
