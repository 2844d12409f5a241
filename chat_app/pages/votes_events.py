"""The functions that the page ``/votes`` calls: my votes and my data."""

import gradio as gr

from chat_app.handlers.my_votes import (
    InPlace,
    MyVotes,
    News,
    ShownReasons,
    VotesFound,
    VoteTotals,
)
from chat_app.pages.events import Event, visitor
from chat_app.service.chat import ChatService
from chat_app.service.my_data import CONFIRM, AboutMe, ErasedData, MyData


class VotesEvents:
    """The functions, over one service."""

    def __init__(self, service: ChatService) -> None:
        self._votes = MyVotes(service)
        self._data = MyData(service)

    def functions(self) -> list[Event]:
        """All of them; each is called by its own name."""
        return [
            self.votes_found,
            self.votes_totals,
            self.votes_news,
            self.votes_in_place,
            self.votes_undo,
            self.votes_redo,
            self.votes_explain,
            self.votes_data,
            self.votes_consent,
            self.votes_erase,
        ]

    def votes_found(
        self, kind: str | None, state: str | None, query: str, page: int, request: gr.Request
    ) -> VotesFound:
        """A page of the person's votes, with filters."""
        return self._votes.found(visitor(request), kind=kind, state=state, query=query, page=page)

    def votes_totals(self, request: gr.Request) -> VoteTotals:
        """How many of the person's votes are in each state, and the round that they wait for."""
        return self._votes.totals(visitor(request))

    def votes_news(self, request: gr.Request) -> News:
        """The version that answers now, and how many of the person's votes taught it."""
        return self._votes.news(visitor(request))

    def votes_in_place(self, conversation_id: str, request: gr.Request) -> tuple[InPlace, ...]:
        """The receipts of the votes in one conversation."""
        return self._votes.in_place(visitor(request), conversation_id)

    def votes_undo(self, kind: str, vote_id: str, request: gr.Request) -> None:
        """Take a vote back."""
        self._votes.undo(visitor(request), kind, vote_id)

    def votes_redo(self, kind: str, vote_id: str, request: gr.Request) -> None:
        """Undo that."""
        self._votes.redo(visitor(request), kind, vote_id)

    def votes_explain(
        self, candidates_id: str, tags: list[str], comment: str, request: gr.Request
    ) -> ShownReasons:
        """Say why one chose so."""
        return self._votes.explain(visitor(request), candidates_id, tags, comment)

    def votes_data(self, request: gr.Request) -> AboutMe:
        """What is stored of the person, in a few words."""
        return self._data.about(visitor(request))

    def votes_consent(self, given: bool, request: gr.Request) -> AboutMe:
        """Agree that votes train the model, or withdraw that."""
        return self._data.consent(visitor(request), given=given)

    def votes_erase(self, confirmed: bool, request: gr.Request) -> ErasedData:
        """Erase everything; the page lets the person type a word in their own language first."""
        return self._data.erase(visitor(request), confirm=CONFIRM if confirmed else "")
