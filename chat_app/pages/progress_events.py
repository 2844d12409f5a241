"""The functions of the page ``/progress``; anybody may call them whom the operator lets see it."""

import gradio as gr

from chat_app.handlers.progress import Progress, ProgressView
from chat_app.pages.events import Event


class ProgressEvents:
    """What the page shows.

    Args:
        progress: Makes the view, for all pages.
        operator: Whether these are for the operator's page, whose door is closed to others.
    """

    def __init__(self, progress: Progress, *, operator: bool = False) -> None:
        self._progress = progress
        self._operator = operator

    def functions(self) -> list[Event]:
        """All of them."""
        return [self.progress_view]

    def progress_view(self, request: gr.Request) -> ProgressView:
        """The rounds, the versions, whose values they are, and the next round."""
        return self._progress.view(operator=self._operator)
