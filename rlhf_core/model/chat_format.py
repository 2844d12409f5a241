"""Messages to token ids and back: the one place that applies a chat template and cuts to lengths.

Invariants: text typed by people never turns into control tokens. The names of special tokens are
removed from every message before the template is applied, so nobody can forge a turn. Serving, SFT,
the reward model, PPO and the gate read the same prompt as the same tokens, cut in the same way: a
prompt loses its oldest turns, a reply keeps its beginning. What a template cannot take, such as
a system message, `chat_template.py` puts into a form that it can.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile

from rlhf_core.config import ReplySettings
from rlhf_core.errors import InvalidInputError
from rlhf_core.model.chat_template import QUIET, ChatTemplate, Tokenizer
from rlhf_core.records import ChatMessage, Prompt, require_prompt

# What has more characters than this for each token of the limit is first encoded in part. Texts
# have 3 to 6, so the part has more than twice as many tokens, of which cutting it made but a few.
LONG, SHORTEST = 16, 32


class ChatFormat:
    """A tokenizer with its chat template, and the contract of lengths.

    Args:
        tokenizer: A tokenizer of transformers, with a chat template.
        reply: The contract.

    Attributes:
        end: Id of the token that ends a reply in training data: the template's own end of a turn,
            or else the tokenizer's end of a sequence.

    Raises:
        ModelError: The template cannot render a question.
    """

    def __init__(self, tokenizer: Tokenizer, reply: ReplySettings) -> None:
        self.tokenizer, self.reply = tokenizer, reply
        self._template = ChatTemplate(tokenizer)
        own = self._template.end
        self.end: int = tokenizer.eos_token_id if own is None else own
        names = self._template.names
        self._special = re.compile("|".join(map(re.escape, names))) if names else None
        self._longest = max(map(len, names), default=0)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a conversation, up to where the assistant's reply begins.

        The contract's system prompt begins it, unless it has a system message of its own.

        Raises:
            InvalidInputError: The prompt is not a conversation, or the template refuses it.
        """
        return self._template.encode(self._render(prompt))

    def fit_prompt(self, prompt: Prompt, max_tokens: int | None = None) -> Prompt | None:
        """The prompt without as many of its oldest turns as needed; `None` if the last is too long.

        A turn is a question and its answer. System messages at the start always stay.

        Args:
            prompt: A conversation.
            max_tokens: The limit, if it is not the contract's.

        Raises:
            InvalidInputError: The prompt is not a conversation, or the template refuses it.
        """
        fitting = self.encode_fitting(prompt, max_tokens)
        return None if fitting is None else fitting[0]

    def encode_fitting(
        self, prompt: Prompt, max_tokens: int | None = None
    ) -> tuple[Prompt, list[int]] | None:
        """What `fit_prompt` gives, and its token ids.

        The time follows from the limit, not from the dialogue. Messages are counted from the newest
        until they are too many. Then the turns that should fit are encoded as one text, because a
        count by message is not exact, and turns are added or left out until they are the most.
        """
        limit = self.reply.prompt_tokens if max_tokens is None else max_tokens
        if (ids := self._encode_within(prompt, limit)) is not None:
            return prompt, ids
        first = len(_head(prompt)) + 1
        # An answer that came first would have lost its question, and a later system message would
        # pass for the one that begins the dialogue.
        starts = [at for at in range(first, len(prompt)) if prompt[at]["role"] == "user"]
        expected = self._expected_start(prompt, limit)

        def cut(start: int) -> tuple[Prompt, list[int]] | None:
            rest = [*_head(prompt), *prompt[start:]]
            ids = self._encode_within(rest, limit)
            return None if ids is None else (rest, ids)

        found = next(filter(None, map(cut, (at for at in starts if at >= expected))), None)
        older = map(cut, (at for at in reversed(starts) if at < expected))
        for longer in takewhile(bool, older):
            found = longer
        return found

    def encode_reply(self, text: str, *, finished: bool = True) -> list[int]:
        """Token ids of a whole reply, with the end token if it is ``finished``."""
        ids = list(
            self.tokenizer(self._plain(text), add_special_tokens=False, **QUIET)["input_ids"]
        )
        return [*ids, self.end] if finished else ids

    def cut_reply(self, text: str) -> list[int]:
        """Token ids of a reply's beginning, at most as many as a reply may have; no end token."""
        return self.encode_reply(text, finished=False)[: self.reply.tokens]

    def encode_pair(self, prompt: Prompt, reply: str) -> tuple[list[int], int]:
        """A prompt and a reply in one sequence, each cut to the contract, with an end token.

        Returns:
            The token ids, and how many of them (at the end) belong to the reply.

        Raises:
            InvalidInputError: The prompt is not a conversation, the template refuses it, or its
                last message is too long.
        """
        fitting = self.encode_fitting(prompt)
        if fitting is None:
            raise InvalidInputError(
                f"the last message of a prompt has more than {self.reply.prompt_tokens} "
                "tokens; leave it out, or raise reply.prompt_tokens"
            )
        _, head = fitting
        own = [*self.cut_reply(reply), self.end]
        return head + own, len(own)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a trusted text, with the end-of-sequence token, cut to the window.

        Names of special tokens in it become control tokens, so never pass text that visitors typed.
        """
        end = self.tokenizer.eos_token_id
        ids = list(self.tokenizer(text, add_special_tokens=False, **QUIET)["input_ids"])
        ids = ids if ids[-1:] == [end] else [*ids, end]
        return ids[: self.reply.window]

    def decode_reply(self, ids: Sequence[int]) -> str:
        """Text of response tokens, without control tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _render(self, prompt: Prompt) -> str:
        """The text that the template makes of a conversation, with the contract's system prompt."""
        require_prompt(prompt)
        begin = self.reply.system_text(prompt)
        said = [("system", begin)] if begin else []
        said += [(message["role"], message["content"]) for message in prompt]
        messages = [
            ChatMessage(role=self._plain(role), content=self._plain(text)) for role, text in said
        ]
        return self._template.render(self._template.form(messages))

    def _encode_within(self, prompt: Prompt, limit: int) -> list[int] | None:
        """Token ids of a prompt, or None if they are more than the limit."""
        text, enough = self._render(prompt), max(limit, SHORTEST)
        beginning = text[: LONG * enough]
        if len(beginning) < len(text) and len(self._template.encode(beginning)) > 2 * enough:
            return None  # rendering takes no time beside encoding
        ids = self._template.encode(text)
        return ids if len(ids) <= limit else None

    def _expected_start(self, prompt: Prompt, limit: int) -> int:
        """Where the newest messages begin that should fit, beside the system messages."""
        head, (around, border) = len(_head(prompt)), self._added
        begin = self.reply.system_text(prompt)
        room = limit - around - (self._count(begin, limit) if begin else 0)
        for at in (*range(head), *range(len(prompt) - 1, head - 1, -1)):
            room -= border + self._count(prompt[at]["content"], limit)
            if room < 0:
                return len(prompt) if at < head else at + 1
        return head

    def _count(self, text: str, limit: int) -> int:
        """Tokens of a message alone; a long one is counted only until it is too long."""
        return len(self._template.encode(self._plain(text.strip()[: LONG * max(limit, SHORTEST)])))

    @cached_property
    def _added(self) -> tuple[float, float]:
        """About how many tokens the template adds to a prompt, and to each message in it."""
        said = [ChatMessage(role=role, content="a") for role in ("user", "assistant", "user")]
        one, three = (
            len(self._template.encode(self._template.render(m))) for m in (said[:1], said)
        )
        border = (three - one) / 2 - 1
        return one - border - 1, border

    def _plain(self, text: str) -> str:
        """A text without the names of special tokens."""
        if self._special is None:
            return text
        text, start = self._special.sub("", text), 0
        while found := self._special.search(text, start):  # removing one may form another
            text = text[: found.start()] + text[found.end() :]
            start = max(0, found.start() - self._longest + 1)
        return text


def _head(prompt: Prompt) -> list[ChatMessage]:
    """The system messages that begin a prompt."""
    return list(takewhile(lambda message: message["role"] == "system", prompt))
