"""Messages to token ids and back: the one place that applies a chat template and cuts to lengths.

Invariants: text typed by people never turns into control tokens. The names of special tokens are
removed from every message before the template is applied, so nobody can forge a turn. Serving, SFT,
the reward model, PPO and the gate read the same prompt as the same tokens, cut in the same way: a
prompt loses its oldest turns, a reply keeps its beginning. What a template cannot take, such as
a system message, `chat_template.py` puts into a form that it can.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile

from rlhf_core.config import ReplySettings
from rlhf_core.errors import InvalidInputError
from rlhf_core.model.chat_template import QUIET, ChatTemplate, Tokenizer
from rlhf_core.records import ChatMessage, Prompt, require_prompt


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

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a conversation, up to where the assistant's reply begins.

        The contract's system prompt begins it, unless it has a system message of its own.

        Raises:
            InvalidInputError: The prompt is not a conversation, or the template refuses it.
        """
        require_prompt(prompt)
        begin = self.reply.system_text(prompt)
        said = [("system", begin)] if begin else []
        said += [(message["role"], message["content"]) for message in prompt]
        messages = [
            ChatMessage(role=self._plain(role), content=self._plain(text)) for role, text in said
        ]
        return self._template.encode(self._template.form(messages))

    def fit_prompt(self, prompt: Prompt, max_tokens: int | None = None) -> Prompt | None:
        """The prompt without as many of its oldest turns as needed; `None` if the last is too long.

        A turn is a question and its answer. System messages at the start always stay.

        Args:
            prompt: A conversation.
            max_tokens: The limit, if it is not the contract's.

        Raises:
            InvalidInputError: The prompt is not a conversation, or the template refuses it.
        """
        limit = self.reply.prompt_tokens if max_tokens is None else max_tokens
        if len(self.encode_prompt(prompt)) <= limit:
            return prompt
        head = list(takewhile(lambda message: message["role"] == "system", prompt))
        # An answer that came first would have lost its question, and a later system message would
        # pass for the one that begins the dialogue.
        turns = range(len(head) + 1, len(prompt))
        starts = [start for start in turns if prompt[start]["role"] == "user"]

        def fits(start: int) -> bool:
            return len(self.encode_prompt([*head, *prompt[start:]])) <= limit

        # by halves, because a long dialogue is encoded between two steps of everybody's replies
        first = bisect_left(starts, True, key=fits)
        return [*head, *prompt[starts[first] :]] if first < len(starts) else None

    def encode_reply(self, text: str, *, finished: bool = True) -> list[int]:
        """Token ids of a whole reply, with the end token if it is ``finished``."""
        plain = self._plain(text)
        ids = list(self.tokenizer(plain, add_special_tokens=False, **QUIET)["input_ids"])
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
        head = self.encode_prompt(prompt)
        if len(head) > self.reply.prompt_tokens:  # rare: it is encoded again, turn by turn
            fitted = self.fit_prompt(prompt)
            if fitted is None:
                raise InvalidInputError(
                    f"the last message of a prompt has more than {self.reply.prompt_tokens} "
                    "tokens; leave it out, or raise reply.prompt_tokens"
                )
            head = self.encode_prompt(fitted)
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

    def _plain(self, text: str) -> str:
        special = self._special
        while special is not None and special.search(text):  # removing one may form another
            text = special.sub("", text)
        return text
