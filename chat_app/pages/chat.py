"""The events of the chat page: which one calls which handler.

The rater is ``gr.Request.username``, which the server finds by cookie or proxy; the browser
tab is Gradio's session. The rules are in ``chat_app.handlers``, the layout in ``chat_parts.py``.
"""

import html
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import gradio as gr

from chat_app.handlers.receipts import receipts_of
from chat_app.handlers.talk import Talk, Views
from chat_app.handlers.views import ChatView, Panel
from chat_app.handlers.votes import Votes
from chat_app.pages.chat_parts import ChatParts, Turns, Update, show_header, show_receipts
from chat_app.pages.shared import BLOCKS, EVENT
from chat_app.pages.words import DECODE_EDITS, Words
from chat_app.service.chat import ChatService

HEADER_S = 5.0  # seconds between updates of the header
AGREED = "Thank you: your votes count from now on."
DECLINED = "The model learns nothing from you. To vote, open “Your data” at the side."
WITHDRAWN = "Done: your votes are not used from now on."
THANKS = "Saved, thank you."
# The mark of a new cookie leaves the address, so that it is in no bookmark; `api/visitors.py`.
OPENED = """() => { if (location.search) history.replaceState(null, '', location.pathname)
    if (window.innerWidth >= 768)
    document.querySelector('#sidebar button[aria-label="Toggle Sidebar"]')?.click() }"""
FOCUS = "() => document.querySelector('#composer textarea')?.focus({preventScroll: true})"
UNFINISHED = "This reply is still being written. Vote when it is complete."


class ChatPage:
    """The page's events; all use one service."""

    def __init__(self, service: ChatService) -> None:
        self._service = service
        self._talk = Talk(service)
        self._votes = Votes(service)

    def build(self) -> gr.Blocks:
        """Make the components and connect the events."""
        blocks: gr.Blocks
        with gr.Blocks(title="feedback-chat", **BLOCKS) as blocks:
            settings = self._service.settings
            words = Words(settings.shows_markdown)
            self._parts = ChatParts(
                message_chars=settings.limits.message_chars,
                words=words,
                starter=settings.is_starter,
            )
            if not words.markdown:
                blocks.load(None, None, None, js=DECODE_EDITS, **EVENT)
            self._wire(blocks)
        return blocks

    def _wire(self, blocks: gr.Blocks) -> None:
        parts, everything = self._parts, self._parts.everything
        blocks.load(None, None, None, js=OPENED, **EVENT)
        loaded = [*everything, parts.notice, parts.counting, parts.header]
        blocks.load(self._on_load, None, loaded, **EVENT).then(None, None, None, js=FOCUS, **EVENT)
        gr.Timer(HEADER_S).tick(self._header, None, parts.header, queue=False, **EVENT)
        gr.on(
            [parts.go.click, parts.text.submit],
            self._on_send,
            [parts.text, parts.turns],
            everything,
            **EVENT,
        )
        parts.chat.example_select(self._on_example, None, everything, **EVENT)
        gr.on(
            [parts.again.click, parts.chat.retry], self._on_again, parts.turns, everything, **EVENT
        )
        parts.chat.edit(self._on_edit, parts.turns, everything, **EVENT)
        parts.halt.click(self._on_stop, None, None, **EVENT)
        parts.new.click(self._on_new, None, everything, **EVENT)
        parts.conversations.input(self._on_open, parts.conversations, everything, **EVENT)
        self._wire_votes(everything)

    def _wire_votes(self, everything: list[Any]) -> None:
        parts = self._parts
        parts.chat.like(self._on_thumb, parts.turns, everything, **EVENT)
        parts.save_reasons.click(
            self._on_reasons,
            [parts.panel_id, parts.panel_value, parts.tags, parts.comment],
            everything,
            **EVENT,
        )
        parts.improve.click(self._on_improve, parts.turns, everything, **EVENT)
        parts.save_better.click(
            self._on_better, [parts.panel_id, parts.better], everything, **EVENT
        )
        parts.close.click(lambda: gr.update(visible=False), None, parts.panel, **EVENT)
        for choice, button in parts.choices.items():
            button.click(self._on_choice(choice), parts.pair_id, everything, **EVENT).then(
                self._on_asked, None, parts.asked.everything, **EVENT
            )
        for choice, button in parts.asked.choices.items():
            button.click(
                self._on_answer(choice),
                parts.asked.id,
                [*parts.asked.everything, parts.receipts],
                **EVENT,
            )
        parts.asked.close.click(lambda: gr.update(visible=False), None, parts.asked.panel, **EVENT)
        self._wire_data()

    def _wire_data(self) -> None:
        parts = self._parts
        gr.on(
            [parts.agree.click, parts.reconsider.click],
            self._on_consent(True),
            None,
            parts.consent,
            **EVENT,
        )
        parts.decline.click(self._on_decline, None, parts.notice, **EVENT)
        parts.withdraw.click(self._on_consent(False), None, parts.consent, **EVENT)
        parts.refresh.click(self._receipts, None, parts.receipts, **EVENT)

    def _on_load(self, request: gr.Request) -> Update:
        rater = _rater(request)
        view = self._talk.opened(rater)
        update = self._parts.show_opened(view)
        if view.problem:
            gr.Warning(html.escape(view.problem))
            return update
        update |= self._parts.show_consent(self._votes.consented(rater))
        update[self._parts.header] = self._header()
        update[self._parts.receipts] = self._receipts(request)
        return update

    async def _on_send(self, text: str, turns: str, request: gr.Request) -> AsyncIterator[Update]:
        last_id = Turns(turns).last_id
        views = self._talk.send(_rater(request), text, last_id=last_id, tab=_tab(request))
        async for update in self._stream(views):
            yield update

    async def _on_example(self, event: gr.SelectData, request: gr.Request) -> AsyncIterator[Update]:
        text = str(event.value["text"])
        async for update in self._on_send(text, "", request):
            yield update

    async def _on_again(self, turns: str, request: gr.Request) -> AsyncIterator[Update]:
        views = self._talk.again(_rater(request), last_id=Turns(turns).last_id, tab=_tab(request))
        async for update in self._stream(views):
            yield update

    async def _on_edit(
        self, event: gr.EditData, turns: str, request: gr.Request
    ) -> AsyncIterator[Update]:
        rater, message_id = _rater(request), Turns(turns).id_at(event.index)
        if Turns(turns).is_reply(event.index):
            yield self._show(self._votes.rewrite(rater, message_id, str(event.value)))
            return
        views = self._talk.edit(rater, message_id, str(event.value), tab=_tab(request))
        async for update in self._stream(views):
            yield update

    async def _on_stop(self, request: gr.Request) -> None:
        await self._talk.stop(_rater(request), tab=_tab(request))

    def _on_new(self, request: gr.Request) -> Update:
        return {**self._on_open(None, request), self._parts.conversations: gr.update(value=None)}

    def _on_open(self, conversation_id: str | None, request: gr.Request) -> Update:
        return self._show(self._talk.open(_rater(request), conversation_id, tab=_tab(request)))

    def _on_thumb(self, event: gr.LikeData, turns: str, request: gr.Request) -> Update:
        # `liked` is "" if a thumb is clicked again: that withdraws it, and is no thumb down.
        value = 1 if event.liked is True else -1 if event.liked is False else 0
        rater, message_id = _rater(request), Turns(turns).id_at(event.index)
        if not message_id:
            gr.Warning(UNFINISHED)
            return {self._parts.note: ""}
        return self._voted(*self._votes.thumb(rater, message_id, value), request)

    def _on_reasons(
        self, message_id: str, value: str, tags: list[str], comment: str, request: gr.Request
    ) -> Update:
        vote = {"1": 1, "-1": -1}.get(value, 0)
        view, _ = self._votes.explain(
            _rater(request), message_id, vote, tags=tags, comment=comment or ""
        )
        if view.problem:
            gr.Warning(html.escape(view.problem))
            return {self._parts.note: ""}
        return self._voted(view, None, request)

    def _on_improve(self, turns: str, request: gr.Request) -> Update:
        panel = self._votes.panel(_rater(request), Turns(turns).last_id)
        if panel is None:
            gr.Warning("There is no reply to improve yet.")
            return {self._parts.note: ""}
        return self._parts.show_panel(panel)

    def _on_better(self, message_id: str, text: str, request: gr.Request) -> Update:
        view = self._votes.rewrite(_rater(request), message_id, text or "")
        if view.problem:
            gr.Warning(html.escape(view.problem))
            return {self._parts.note: ""}
        return self._voted(view, None, request)

    def _on_choice(self, choice: str) -> Any:
        def chosen(pair_id: str, request: gr.Request) -> Update:
            return self._voted(self._votes.choose(_rater(request), pair_id, choice), None, request)

        return chosen

    def _on_asked(self, request: gr.Request) -> Update:
        return self._parts.asked.show(self._votes.asked(_rater(request)))

    def _on_answer(self, choice: str) -> Any:
        def answered(candidates_id: str, request: gr.Request) -> Update:
            if problem := self._votes.answer(_rater(request), candidates_id, choice):
                gr.Warning(html.escape(problem))
                return {self._parts.receipts: gr.update()}
            gr.Info(THANKS)
            receipts = {self._parts.receipts: self._receipts(request)}
            return {**self._parts.asked.show(None), **receipts}

        return answered

    def _on_consent(self, given: bool) -> Any:
        def answered(request: gr.Request) -> Update:
            if problem := self._votes.consent(_rater(request), given=given):
                gr.Warning(html.escape(problem))
                return {self._parts.receipts: gr.update()}
            gr.Info(AGREED if given else WITHDRAWN)
            shown = self._parts.show_consent(given)
            return {**shown, self._parts.receipts: self._receipts(request)}

        return answered

    def _on_decline(self) -> Any:
        gr.Info(DECLINED)
        return gr.update(visible=False)

    # Helpers

    async def _stream(self, views: Views) -> AsyncIterator[Update]:
        async with aclosing(views):
            async for view in views:
                yield self._show(view)

    def _show(self, view: ChatView) -> Update:
        if view.problem:
            gr.Warning(html.escape(view.problem))
        return self._parts.show(view)

    def _voted(self, view: ChatView, panel: Panel | None, request: gr.Request) -> Update:
        update = self._show(view)
        if not view.problem:
            update[self._parts.receipts] = self._receipts(request)
        return {**update, **self._parts.show_panel(panel)} if panel else update

    def _header(self) -> str:
        return show_header(self._service.adapter)

    def _receipts(self, request: gr.Request) -> str:
        return show_receipts(receipts_of(self._service, _rater(request)))


def _rater(request: gr.Request) -> str:
    if not request.username:
        raise gr.Error("Your browser sent no cookie. Allow cookies for this site, then reload.")
    return str(request.username)


def _tab(request: gr.Request) -> str:
    return str(request.session_hash)
