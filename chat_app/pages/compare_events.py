"""The functions that the page Compare calls; what they do is in `chat_app.handlers.compare`."""

import gradio as gr

from chat_app.cycles.round_ahead import RoundAhead
from chat_app.handlers.compare import Compare
from chat_app.handlers.compare_views import CompareView, Judged, Written
from chat_app.pages.events import Event, visitor
from chat_app.service.chat import ChatService


class CompareEvents:
    """Events of the page Compare, for whoever sends the request."""

    def __init__(self, service: ChatService) -> None:
        self.compare = Compare(service)

    def functions(self) -> list[Event]:
        """All of them."""
        return [
            self.compare_open,
            self.compare_suggest,
            self.compare_ask,
            self.compare_follow,
            self.compare_stop,
            self.compare_choose,
            self.compare_rank,
            self.compare_skip,
            self.compare_round,
        ]

    def compare_open(self, request: gr.Request) -> CompareView:
        """The page as it is now."""
        return self.compare.opened(visitor(request))

    def compare_suggest(self, request: gr.Request) -> tuple[str, ...]:
        """Other prompts to ask."""
        return self.compare.others(visitor(request))

    async def compare_ask(
        self, text: str, n: int, opponent: str | None, request: gr.Request
    ) -> Written:
        """Begin to write blind replies to a prompt, or show those that were prepared."""
        return await self.compare.ask(visitor(request), text, n, opponent)

    async def compare_follow(self, seen: int, request: gr.Request) -> Written:
        """Wait for more replies than were seen, and tell what there is."""
        return await self.compare.follow(visitor(request), seen)

    async def compare_stop(self, request: gr.Request) -> None:
        """Stop the replies that are being written."""
        await self.compare.stop(visitor(request))

    def compare_choose(
        self,
        candidates_id: str,
        choice: str,
        strength: float | None,
        seconds: float | None,
        agree: bool,
        request: gr.Request,
    ) -> Judged:
        """Say which of two replies is better."""
        return self.compare.choose(
            visitor(request),
            candidates_id,
            choice,
            strength=strength,
            seconds=seconds,
            agree=agree,
        )

    def compare_rank(
        self, candidates_id: str, order: list[list[str]], agree: bool, request: gr.Request
    ) -> Judged:
        """Put all replies in an order."""
        return self.compare.rank(visitor(request), candidates_id, order, agree=agree)

    def compare_skip(self, candidates_id: str, request: gr.Request) -> tuple[str, ...]:
        """Show these replies no more."""
        return self.compare.skip(visitor(request), candidates_id)

    def compare_round(self) -> RoundAhead:
        """How many votes the next round has now."""
        return self.compare.round_ahead()
