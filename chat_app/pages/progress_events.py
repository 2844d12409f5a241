"""The functions of ``/progress`` and ``/values``, for everybody whom the operator lets see them."""

import gradio as gr

from chat_app.handlers.progress import Progress, ProgressView, WhoseValues, WhoseView
from chat_app.pages.events import Event


class ProgressEvents:
    """What the two pages show.

    Args:
        progress: Makes the view of the one, for visitors and operators.
        whose: The same of the other.
        operator: Whether these are for the operator's page, whose door is closed to others.
    """

    def __init__(self, progress: Progress, whose: WhoseValues, *, operator: bool = False) -> None:
        self._progress, self._whose = progress, whose
        self._operator = operator

    def functions(self) -> list[Event]:
        """All of them."""
        return [self.progress_view, self.values_view]

    def progress_view(self, request: gr.Request) -> ProgressView:
        """The rounds, the versions, whose values they are, and the next round."""
        return self._progress.view(operator=self._operator)

    def values_view(self, request: gr.Request) -> WhoseView:
        """Whose values the model has, and what it gets wrong."""
        return self._whose.view(operator=self._operator)
