"""What everybody may know of how the model changes: rounds, tests, whose values, what comes next.

Invariant: nothing here quotes a person or tells one from others. Prompts and replies are those of
packaged probes alone, reasons are one of a few causes, and counts of people begin at five. The
operator, who sees every rater anyway, is told whose values of any number of people.
"""

from chat_app.handlers.progress.view import Progress, ProgressView
from chat_app.handlers.progress.whose import WhoseValues, WhoseView

__all__ = ["Progress", "ProgressView", "WhoseValues", "WhoseView"]
