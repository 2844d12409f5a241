"""What a model's chat template can do, and messages in the form that it takes.

A template is a program of the model's author. Some refuse a system message, or two turns of one
speaker in a row; some drop a message without a word. So small conversations are rendered once, and
their texts are looked for in the result. A template that takes everything gets every conversation
as it is. Nothing here knows lengths, or which texts people typed.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

from rlhf_core.errors import InvalidInputError, ModelError
from rlhf_core.records import ChatMessage

Tokenizer = Any  # transformers has no typed tokenizer interface

# Templates that let a model think before it answers have a switch of one of these names; the others
# do not look. A reply has no room for thoughts, and people would vote on them.
NO_THINKING = {"enable_thinking": False, "thinking": False}
# transformers would warn of a text that is longer than the model's context; it is cut after this.
QUIET = {"verbose": False}
# Some templates write today's date. A cycle that is continued tomorrow would then have other
# prompts, and replies would be trained on one date and served on another. So every day is the one
# that Llama's templates write where there is no clock.
ONE_DATE = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}{{ '' }}"
BRACKETED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")  # how the names of turns look
PROBES = ("first-probe", "second-probe", "third-probe", "last-probe")


class ChatTemplate:
    """A tokenizer's chat template.

    Args:
        tokenizer: A tokenizer of transformers, with a chat template.

    Attributes:
        end: Id of the control token that ends the assistant's turn; None if nothing does.
        names: Texts that the template or the tokenizer takes for the border of a turn. Among them
            are bracketed names that the tokenizer does not know, such as ``[INST]``. A name without
            brackets, such as ``USER:``, is not: people write such words.

    Raises:
        ModelError: The template cannot render a question.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._template = ONE_DATE + tokenizer.get_chat_template()
        if not self._takes("user"):
            raise ModelError(
                "the model's chat template does not render a user message; use another model, or "
                "mend its template"
            )
        self._system = self._takes("system", "user")
        self._late_system = self._takes("user", "assistant", "system", "user")
        self._assistant_first = self._takes("assistant", "user")
        twice = {
            "user": ("user", "user"),
            "assistant": ("user", "assistant", "assistant", "user"),
            "system": ("system", "system", "user"),
        }
        self._never_twice = {role for role, roles in twice.items() if not self._takes(*roles)}
        added = tokenizer.added_tokens_decoder.items()
        control = {token.content: number for number, token in added if token.special}
        self.end = self._end(control)
        self.names = frozenset(control) | self._turn_names()

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Messages that have the template's form as text, up to where a reply begins.

        Raises:
            InvalidInputError: The template refuses them; the message has its words.
        """
        with _refusal():
            return str(self._apply(messages, tokenize=False))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that the template wrote.

        Raises:
            InvalidInputError: The tokenizer cannot read it.
        """
        with _refusal():
            return list(self._tokenizer(text, add_special_tokens=False, **QUIET)["input_ids"])

    def form(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """The messages in the form that the template takes; it changes only what it must.

        - An empty system message vanishes. One that the template does not take begins the user's
          turn after it, or is one.
        - Neighbours of one speaker become one turn, with an empty line between them.
        - An assistant's turn at the start, before anybody asked, is left out.
        """
        turns: list[ChatMessage] = []
        folded = False  # whether the last turn is a system message that became a user's
        for message in messages:
            role, text = message["role"], message["content"]
            if role == "system" and not text.strip():
                continue
            late = any(turn["role"] != "system" for turn in turns)
            fold = role == "system" and not (self._late_system if late else self._system)
            role = "user" if fold else role
            if turns and turns[-1]["role"] == role and (folded or role in self._never_twice):
                parts = [part for part in (turns[-1]["content"], text) if part.strip()]
                turns[-1] = ChatMessage(role=role, content="\n\n".join(parts))
            else:
                turns.append(ChatMessage(role=role, content=text))
            folded = fold
        while not self._assistant_first and turns and _first_speaker(turns) == "assistant":
            turns.remove(next(turn for turn in turns if turn["role"] == "assistant"))
        return turns

    def _apply(self, messages: Sequence[ChatMessage], *, reply: bool = True, **how: Any) -> Any:
        return self._tokenizer.apply_chat_template(
            list(messages),
            chat_template=self._template,
            add_generation_prompt=reply,
            **NO_THINKING,
            **how,
        )

    def _rendered(self, roles: Sequence[str], *, reply: bool = True) -> str:
        """A conversation of the probes as text; empty if the template refuses it."""
        messages = [ChatMessage(role=role, content=PROBES[i]) for i, role in enumerate(roles)]
        try:
            return str(self._apply(messages, reply=reply, tokenize=False))
        except Exception:  # a template may raise anything
            return ""

    def _takes(self, *roles: str) -> bool:
        """Whether the template renders all messages of a conversation."""
        text = self._rendered(roles)
        return all(probe in text for probe in PROBES[: len(roles)])

    def _end(self, control: dict[str, int]) -> int | None:
        _, _, after = self._rendered(("user", "assistant"), reply=False).partition(PROBES[1])
        longest_first = sorted(control, key=len, reverse=True)
        found = re.search("|".join(map(re.escape, longest_first)) or "(?!)", after)
        return control[found[0]] if found else None

    def _turn_names(self) -> set[str]:
        roles = ("user", "assistant", "user")
        text = self._rendered(("system", *roles) if self._system else roles, reply=False)
        for probe in PROBES:
            text = text.replace(probe, " ")
        return set(BRACKETED.findall(text))


@contextmanager
def _refusal() -> Iterator[None]:
    """Turn any error of a template, which may raise anything, into one line."""
    try:
        yield
    except Exception as exc:
        words = shorten(str(exc), 200, placeholder=" ...") or type(exc).__name__
        raise InvalidInputError(
            f"the model's chat template refuses this conversation: {words}"
        ) from exc


def _first_speaker(turns: Sequence[ChatMessage]) -> str | None:
    return next((turn["role"] for turn in turns if turn["role"] != "system"), None)
