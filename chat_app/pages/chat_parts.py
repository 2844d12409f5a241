"""The components of the chat page, and the updates that show a view of the conversation.

Each message on the page has its id in its metadata, so a click names the reply that was clicked,
even after a restart. `Words` shows text from people and models, or this module escapes it. The
events are in ``chat.py``.
"""

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from chat_app.handlers.receipts import Receipt
from chat_app.handlers.views import ChatView, Panel, Shown, short
from chat_app.handlers.votes import CHOICES
from chat_app.pages.asked_panel import AskedPanel
from chat_app.pages.words import Words
from chat_app.service.voting import COMMENT_CHARS, REASONS

Update = dict[Any, Any]

NOTICE = """**Before you start.** What you write, the replies and your votes are stored on this
server. If you agree, your votes and better answers train the model that everybody here talks to.
Do not write anything private. You can chat without agreeing, and you can withdraw at any time.
"""
EMPTY = """### Ask something
A {kind} model answers. Your thumbs, choices and better answers teach it.
"""
STARTER_EXAMPLES = (
    "What is the capital of Italy?",
    "Politely, what is the opposite of hot?",
    "List three animals.",
)
EXAMPLES = (
    "Why is the sky blue? Answer in two sentences.",
    "Give me three ideas for a rainy Sunday.",
    "Write a short thank-you note to a neighbour.",
)
DATA = """Your conversations and votes are stored under a random id, which is in a cookie of this
browser, with a short hash of the address that you first came from. The model is trained on them
only if you agree."""
COUNTING = "At present your votes <b>count</b>."
NOT_COUNTING = "At present your votes do <b>not</b> count."
CHOOSE_FIRST = "Choose between the two replies above to go on."
LOADING = "Loading …"
WRITE = "Write a message"
THUMBS = {1: "Like", -1: "Dislike"}
NO_RECEIPTS = "No votes yet. Each vote will be listed here with what became of it."


class ChatParts:
    """All components of the page; make it inside an open ``gr.Blocks``."""

    def __init__(self, *, message_chars: int, words: Words, starter: bool) -> None:
        self._words, self._starter = words, starter
        self._sidebar()
        with gr.Column(elem_classes="page"):
            self.header = gr.HTML()
            self._notice()
            self._conversation()
            self._pair()
            self._panel()
            self.asked = AskedPanel(words)
            self._composer(message_chars)

    def _sidebar(self) -> None:
        # Closed until the page is known to be wide: on a phone it would cover the conversation.
        with gr.Sidebar(width=290, open=False, elem_id="sidebar"):
            self.new = gr.Button("New conversation", variant="primary")
            self.conversations = gr.Radio([], label="Your conversations", elem_id="conversations")
            with gr.Accordion("What became of your votes", open=False, elem_id="receipts"):
                self.receipts = gr.HTML()
                self.refresh = gr.Button("Refresh", size="sm")
            with gr.Accordion("Your data", open=False):
                gr.Markdown(DATA, elem_classes="quiet")
                self.counting = gr.HTML(elem_id="counting")
                self.reconsider = gr.Button("Let my votes count", size="sm")
                self.withdraw = gr.Button("Stop using my votes", size="sm")

    def _notice(self) -> None:
        with gr.Column(visible=False, elem_classes="card", elem_id="notice") as self.notice:
            gr.Markdown(NOTICE)
            with gr.Row(elem_classes="actions"):
                self.agree = gr.Button("I agree: my votes may train it", variant="primary")
                self.decline = gr.Button("Just chat")

    def _conversation(self) -> None:
        # What events send instead of the conversation, which may be long; see `Turns`.
        self.turns = gr.Textbox(visible=False)
        self.chat = gr.Chatbot(
            label="Conversation",
            show_label=False,
            elem_id="chat",
            height="auto",  # set by the style sheet, which depends on the other parts of the page
            editable="all",
            buttons=["copy"] if self._words.markdown else [],  # it would copy escaped text
            render_markdown=self._words.markdown,
            placeholder=LOADING,
            group_consecutive_messages=False,
            allow_tags=False,
            allow_file_downloads=False,
            latex_delimiters=[],
        )

    def _pair(self) -> None:
        self.pair_id = gr.Textbox(visible=False)
        with gr.Column(visible=False, elem_id="pair") as self.pair:
            gr.Markdown("**Two replies this time: which is better?** The order is random.")
            with gr.Row():
                self.replies = [self._reply("a"), self._reply("b")]
            with gr.Row():
                self.choices = {
                    choice: gr.Button(label[0].upper() + label[1:], min_width=110)
                    for choice, label in CHOICES.items()
                }

    def _reply(self, name: str) -> gr.Markdown:
        with gr.Column(elem_classes="card", min_width=260, elem_id=f"reply-{name}"):
            return self._words.card()

    def _panel(self) -> None:
        self.panel_id = gr.Textbox(visible=False)
        self.panel_value = gr.Textbox(visible=False)
        with gr.Column(visible=False, elem_classes="card", elem_id="panel") as self.panel:
            self.panel_title = gr.HTML()
            with gr.Column(elem_id="reasons") as self.why:
                self.tags = gr.CheckboxGroup([], label="Why? (optional)", elem_id="tags")
                self.comment = gr.Textbox(
                    label="Comment (optional)", max_length=COMMENT_CHARS, elem_id="comment"
                )
                with gr.Row(elem_classes="actions"):
                    self.save_reasons = gr.Button("Save reasons", variant="primary", size="sm")
            self.better = gr.Textbox(
                label="A better answer (optional): what should the reply be?",
                lines=2,
                elem_id="better",
            )
            with gr.Row(elem_classes="actions"):
                self.save_better = gr.Button("Save better answer", size="sm")
                self.close = gr.Button("Close", size="sm")

    def _composer(self, message_chars: int) -> None:
        self.note = gr.HTML(elem_id="note")
        with gr.Row(equal_height=True):
            self.text = gr.Textbox(
                label="Your message",
                show_label=False,
                container=False,
                placeholder=LOADING,
                interactive=False,  # until the page is loaded; loading would delete a typed message
                lines=1,
                max_lines=8,
                max_length=message_chars,
                scale=8,
                elem_id="composer",
                html_attributes=gr.InputHTMLAttributes(enterkeyhint="send"),
            )
            self.go = gr.Button("Send", variant="primary", scale=1, min_width=90, interactive=False)
            self.halt = gr.Button("Stop", variant="stop", scale=1, min_width=90, visible=False)
        with gr.Row(elem_classes="actions"):
            self.again = gr.Button("Try again", size="sm", min_width=120, interactive=False)
            self.improve = gr.Button(
                "Write a better answer", size="sm", min_width=120, interactive=False
            )

    @property
    def everything(self) -> list[Any]:
        """All components that an event may change."""
        return [
            self.chat,
            self.turns,
            self.conversations,
            self.pair,
            self.pair_id,
            *self.replies,
            *self.choices.values(),
            self.panel,
            self.panel_id,
            self.panel_value,
            self.panel_title,
            self.why,
            self.tags,
            self.comment,
            self.better,
            self.note,
            self.text,
            self.go,
            self.halt,
            self.again,
            self.improve,
            self.receipts,
        ]

    @property
    def consent(self) -> list[Any]:
        """The components that depend on the person's consent."""
        return [self.notice, self.counting, self.receipts]

    # Views to updates

    def show(self, view: ChatView) -> Update:
        """Show a view; while a reply is being written, only the parts that grow are sent.

        A problem without messages leaves the conversation on the page as it is.
        """
        if view.problem and not view.messages:
            return {self.text: _text(view, waiting=False), self.go: gr.update(interactive=True)}
        update: Update = {
            self.chat: gr.update(value=self._history(view.messages)),
            self.turns: Turns.written(view.messages),
        }
        if view.pair is not None:
            update |= self._show_pair(view)
        if view.busy and view.draft is None:
            return update
        waiting, thumbs = view.pair is not None, _thumbs(view.messages)
        stored = bool(view.messages) and view.messages[-1].id != ""
        idle = stored and not view.busy and not waiting
        update |= {
            self.chat: gr.update(value=self._history(view.messages), feedback_value=thumbs),
            self.pair: gr.update(visible=waiting),
            self.panel: gr.update(visible=False),
            self.note: f'<p class="quiet" role="status">{html.escape(view.note)}</p>',
            self.go: gr.update(visible=not view.busy, interactive=not waiting),
            self.halt: gr.update(visible=view.busy),
            self.again: gr.update(interactive=idle),
            self.improve: gr.update(interactive=idle and bool(thumbs)),
            self.text: _text(view, waiting=waiting),
        }
        if view.conversations is not None:
            update[self.conversations] = gr.update(
                choices=list(view.conversations), value=view.conversation_id
            )
        return update

    def show_opened(self, view: ChatView) -> Update:
        """Show the first view, with the examples; before it the page says only that it loads."""
        update = self.show(view)
        update[self.chat] = {**update.get(self.chat, gr.update()), **invitation(self._starter)}
        return update

    def show_consent(self, given: bool) -> Update:
        """Show whether votes count at present, and the notice to a person who has not agreed."""
        state = f'<p role="status">{COUNTING if given else NOT_COUNTING}</p>'
        return {self.notice: gr.update(visible=not given), self.counting: state}

    def _show_pair(self, view: ChatView) -> Update:
        assert view.pair is not None
        ready = bool(view.pair.id)
        buttons = {button: gr.update(interactive=ready) for button in self.choices.values()}
        return {
            self.pair: gr.update(visible=True),
            self.pair_id: view.pair.id,
            self.replies[0]: self._words.titled("A", view.pair.a),
            self.replies[1]: self._words.titled("B", view.pair.b),
            **buttons,
        }

    def _history(self, messages: Sequence[Shown]) -> list[dict[str, Any]]:
        bubble = self._words.bubble
        return [
            {"role": m.role, "content": bubble(m.content or "…"), "metadata": {"id": m.id}}
            for m in messages
        ]

    def show_panel(self, panel: Panel) -> Update:
        """Show the feedback panel of one reply."""
        about = f"“{short(panel.content, 80)}”"
        verdict = {1: "You liked", -1: "You did not like", 0: "Improve"}[panel.value]
        return {
            self.panel: gr.update(visible=True),
            self.panel_id: panel.message_id,
            self.panel_value: str(panel.value),
            self.panel_title: f"<b>{verdict}</b> {html.escape(about)}",
            self.why: gr.update(visible=panel.value != 0),
            self.tags: gr.update(
                choices=list(REASONS.get(panel.value, ())), value=list(panel.tags)
            ),
            self.comment: panel.comment,
            self.better: panel.content,
        }


class Turns:
    """The messages on a page, by role and id; a page sends them as one short text.

    Args:
        text: What `written` gave; anything else has no messages.
    """

    def __init__(self, text: str) -> None:
        self._turns = [(turn[:1], turn[1:]) for turn in str(text).split()]

    @staticmethod
    def written(messages: Sequence[Shown]) -> str:
        """The text; a message that is not stored, or not yet, has no id."""
        return " ".join(f"{m.role[0]}{m.id}" for m in messages)

    def id_at(self, index: Any) -> str:
        """The id of a message; empty while it is being written, and for an index of none."""
        known = isinstance(index, int) and 0 <= index < len(self._turns)
        return self._turns[index][1] if known else ""

    def is_reply(self, index: Any) -> bool:
        """Whether a message was written by the assistant."""
        return bool(self.id_at(index)) and self._turns[index][0] == "a"

    @property
    def last_id(self) -> str | None:
        """The id of the last message that is stored."""
        return next((turn_id for _, turn_id in reversed(self._turns) if turn_id), None)


def invitation(starter: bool) -> dict[str, Any]:
    """What an empty conversation shows: only the starter is asked about its own small world."""
    kind, examples = ("small", STARTER_EXAMPLES) if starter else ("language", EXAMPLES)
    return {
        "placeholder": EMPTY.format(kind=kind),
        "examples": [{"text": example} for example in examples],
    }


def show_header(adapter: str) -> str:
    """The line at the top: the name of the page and the adapter that answers."""
    return (
        '<div class="bar"><h1>feedback-chat</h1><span class="pill" title="The version of the model '
        f'that new replies use">answers come from <b>{html.escape(adapter)}</b></span></div>'
    )


def show_receipts(receipts: Sequence[Receipt]) -> str:
    """The list of votes and what became of each."""
    if not receipts:
        return f'<p class="quiet">{NO_RECEIPTS}</p>'
    items = (
        f"<li><b>{html.escape(r.said)}</b><br>{html.escape(r.about)}<br>"
        f'<span class="quiet">{html.escape(r.became)}</span></li>'
        for r in receipts
    )
    return (
        f'<p class="quiet">Thank you. Newest first:</p><ul class="receipts">{"".join(items)}</ul>'
    )


def _thumbs(messages: Sequence[Shown]) -> list[str | None]:
    return [THUMBS.get(m.thumb) for m in messages if m.role == "assistant"]


def _text(view: ChatView, *, waiting: bool) -> Any:
    update: dict[str, Any] = {
        "placeholder": CHOOSE_FIRST if waiting else WRITE,
        "interactive": not waiting,
    }
    if view.draft is not None:
        update["value"] = view.draft
    return gr.update(**update)
