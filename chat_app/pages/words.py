"""Show the text of people and models: as plain text or, with `markdown`, as Markdown.

Invariant: no text acts on the page, and as plain text a reader sees every stored character. This
module escapes two characters, and the browser decodes them; `DECODE_EDITS` does so where a message
is edited.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

DECODE_EDITS = """() => document.addEventListener('focusin', ({target}) => {
    if (!target.matches('#chat textarea') || target.dataset.decoded) return;
    target.dataset.decoded = 'yes';
    target.value = target.value.replaceAll('&lt;', '<').replaceAll('&amp;', '&');
    target.dispatchEvent(new Event('input', {bubbles: true}));
})"""


@dataclass(frozen=True, slots=True)
class Words:
    """Shows texts in bubbles and in cards."""

    markdown: bool = False

    def bubble(self, text: str) -> list[dict[str, Any]]:
        """The content of one message of a `gr.Chatbot` with ``render_markdown=self.markdown``."""
        return [{"type": "text", "text": text if self.markdown else _escaped(text)}]

    def card(self) -> gr.Markdown:
        """A component for `titled` texts."""
        return gr.Markdown(line_breaks=True, latex_delimiters=[])

    def titled(self, title: str, text: str) -> str:
        """A text under its title, for a `card`."""
        if not self.markdown:  # in one line, because a blank line would end the HTML block
            text = f'<div class="said">{_escaped(text).replace(chr(10), "&#10;")}</div>'
        return f"**{title}**\n\n{text}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
