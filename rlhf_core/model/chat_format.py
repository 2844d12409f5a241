"""Messages to token ids and back: the one place that applies a chat template.

Invariant: text typed by people never turns into control tokens. The names of special tokens are
removed from every message before the template is applied, so nobody can forge a turn.
"""

import re
from collections.abc import Sequence
from typing import Any

from rlhf_core.records import Prompt, require_prompt

Tokenizer = Any  # transformers has no typed tokenizer interface


def encode_prompt(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """Token ids of a conversation, up to where the assistant's reply begins.

    Raises:
        InvalidInputError: The prompt is not a conversation.
    """
    require_prompt(prompt)
    special = _special_tokens(tokenizer)
    messages = [{"role": m["role"], "content": _plain(m["content"], special)} for m in prompt]
    encoded = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(encoded["input_ids"])


def fit_prompt(tokenizer: Tokenizer, prompt: Prompt, max_tokens: int) -> Prompt | None:
    """The prompt without as many of its oldest turns as needed; `None` if the last is too long.

    A turn is a question and its answer. A system message at the start always stays.
    """
    messages = list(prompt)
    while len(encode_prompt(tokenizer, messages)) > max_tokens:
        first = 1 if messages[0]["role"] == "system" else 0
        if len(messages) - first < 2:
            return None
        del messages[first : first + 2]
    return messages


def encode_reply(tokenizer: Tokenizer, text: str, *, finished: bool = True) -> list[int]:
    """Token ids of a response, with the end-of-sequence token if it is ``finished``."""
    text = _plain(text, _special_tokens(tokenizer))
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return [*ids, tokenizer.eos_token_id] if finished else ids


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a trusted text, with the end-of-sequence token.

    Names of special tokens in it become control tokens, so never pass text that visitors typed.
    """
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return ids if ids[-1:] == [tokenizer.eos_token_id] else [*ids, tokenizer.eos_token_id]


def decode_reply(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of response tokens, without control tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def encode_pair(
    tokenizer: Tokenizer,
    prompt: Prompt,
    response: str,
    *,
    max_tokens: int,
    finished: bool = True,
) -> tuple[list[int], int]:
    """Prompt and response in one sequence, cut from the left to ``max_tokens``.

    Returns:
        The token ids, and how many of them (at the end) belong to the response.
    """
    reply = encode_reply(tokenizer, response, finished=finished)[-max_tokens:]
    ids = (encode_prompt(tokenizer, prompt) + reply)[-max_tokens:]
    return ids, len(reply)


def _special_tokens(tokenizer: Tokenizer) -> "re.Pattern[str] | None":
    names = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
    return re.compile("|".join(re.escape(n) for n in names)) if names else None


def _plain(text: str, special: "re.Pattern[str] | None") -> str:
    while special is not None and special.search(text):  # removing one name may form another
        text = special.sub("", text)
    return text
