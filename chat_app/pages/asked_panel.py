"""The panel for a gold question: one more comparison, from outside the conversation."""

from typing import Any

import gradio as gr

from chat_app.handlers.views import Asked
from chat_app.handlers.votes import CHOICES
from chat_app.pages.words import Words

Update = dict[Any, Any]

TITLE = "**One more, please: which reply is better?** It is not from your conversation."
SPEAKERS = {"system": "Instructions", "user": "Question", "assistant": "Reply"}


class AskedPanel:
    """The components of the panel; make it inside an open ``gr.Blocks``."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self.id = gr.Textbox(visible=False)
        with gr.Column(visible=False, elem_classes="card", elem_id="asked") as self.panel:
            gr.Markdown(TITLE)
            self.prompt = words.card()
            with gr.Row():
                self.replies = [self._reply("a"), self._reply("b")]
            with gr.Row():
                self.choices = {
                    choice: gr.Button(label[0].upper() + label[1:], size="sm", min_width=110)
                    for choice, label in CHOICES.items()
                }
                self.close = gr.Button("Not now", size="sm", min_width=110)

    def _reply(self, name: str) -> gr.Markdown:
        with gr.Column(elem_classes="card", min_width=260, elem_id=f"asked-{name}"):
            return self._words.card()

    @property
    def everything(self) -> list[Any]:
        """All components that an event may change."""
        return [self.panel, self.id, self.prompt, *self.replies]

    def show(self, asked: Asked | None) -> Update:
        """Show the panel for a gold question; None hides it."""
        if asked is None:
            return {self.panel: gr.update(visible=False), self.id: ""}
        titled = self._words.titled
        prompt = "\n\n".join(titled(SPEAKERS[role], content) for role, content in asked.prompt)
        return {
            self.panel: gr.update(visible=True),
            self.id: asked.id,
            self.prompt: prompt,
            self.replies[0]: titled("A", asked.a),
            self.replies[1]: titled("B", asked.b),
        }
