"""Messages to token ids and back: the one place that applies a chat template and cuts to lengths.

Invariants: text typed by people never turns into control tokens. The names of special tokens are
removed from every message before the template is applied, so nobody can forge a turn. Serving, SFT,
the reward model, PPO and the gate read the same prompt as the same tokens, cut in the same way: a
prompt loses its oldest turns, a reply keeps its beginning.
"""

import re
from collections.abc import Sequence
from typing import Any

from rlhf_core.config import ReplySettings
from rlhf_core.errors import InvalidInputError
from rlhf_core.records import Prompt, require_prompt

Tokenizer = Any  # transformers has no typed tokenizer interface


class ChatFormat:
    """A tokenizer with its chat template, and the contract of lengths.

    Args:
        tokenizer: A tokenizer of transformers, with a chat template.
        reply: The contract.
    """

    def __init__(self, tokenizer: Tokenizer, reply: ReplySettings) -> None:
        self.tokenizer, self.reply = tokenizer, reply
        names = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        self._special = re.compile("|".join(map(re.escape, names))) if names else None

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a conversation, up to where the assistant's reply begins.

        Raises:
            InvalidInputError: The prompt is not a conversation.
        """
        require_prompt(prompt)
        messages = [{"role": m["role"], "content": self._plain(m["content"])} for m in prompt]
        encoded = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return list(encoded["input_ids"])

    def fit_prompt(self, prompt: Prompt, max_tokens: int | None = None) -> Prompt | None:
        """The prompt without as many of its oldest turns as needed; `None` if the last is too long.

        A turn is a question and its answer. A system message at the start always stays.

        Args:
            prompt: A conversation.
            max_tokens: The limit, if it is not the contract's.
        """
        limit = self.reply.prompt_tokens if max_tokens is None else max_tokens
        messages = list(prompt)
        while len(self.encode_prompt(messages)) > limit:
            first = 1 if messages[0]["role"] == "system" else 0
            if len(messages) - first < 2:
                return None
            del messages[first : first + 2]
        return messages if len(messages) < len(prompt) else prompt

    def encode_reply(self, text: str, *, finished: bool = True) -> list[int]:
        """Token ids of a whole reply, with the end-of-sequence token if it is ``finished``."""
        ids = list(self.tokenizer(self._plain(text), add_special_tokens=False)["input_ids"])
        return [*ids, self.tokenizer.eos_token_id] if finished else ids

    def cut_reply(self, text: str) -> list[int]:
        """Token ids of a reply's beginning, at most as many as a reply may have; no end token."""
        return self.encode_reply(text, finished=False)[: self.reply.tokens]

    def encode_pair(self, prompt: Prompt, reply: str) -> tuple[list[int], int]:
        """A prompt and a reply in one sequence, each cut to the contract, with an end token.

        Returns:
            The token ids, and how many of them (at the end) belong to the reply.

        Raises:
            InvalidInputError: The prompt is not a conversation, or its last message is too long.
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
        own = [*self.cut_reply(reply), self.tokenizer.eos_token_id]
        return head + own, len(own)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a trusted text, with the end-of-sequence token, cut to the window.

        Names of special tokens in it become control tokens, so never pass text that visitors typed.
        """
        end = self.tokenizer.eos_token_id
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
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
