"""Prompts as token ids, made beside the decoding thread, which never encodes.

A request is checked before it is stored and answered after that, and several candidates answer one
prompt. So the last prompts are kept, and each is encoded once. One thread encodes them all: a
tokenizer lets other threads go on while it works, and the other cores are for decoding.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import takewhile
from typing import Any

from chat_app.engine import GenerationRequest
from chat_app.errors import InvalidRequestError, TooLongError
from feedback_store.errors import say
from feedback_store.records import PromptMessage
from rlhf_core.errors import InvalidInputError
from rlhf_core.model.chat_format import ChatFormat

DEFAULT_CONTEXT = 2048  # tokens, if the model's configuration does not say
KEPT = 32  # prompts
COUNTED = 50_000  # characters of a refused message that are looked at to say how many fit

_Said = tuple[tuple[str, str], ...]  # the role and text of each message


class Prompts:
    """Turns the prompts of requests into token ids that fit the base.

    Args:
        chat: Of the base, with the contract.
        config: Of its model.
        most: Tokens of a prompt and its reply, if whoever decodes takes fewer than the model.
    """

    def __init__(self, chat: ChatFormat, config: Any, *, most: int | None = None) -> None:
        known = getattr(config.get_text_config(), "max_position_embeddings", None)
        context = known or DEFAULT_CONTEXT
        self._context = context if most is None else min(context, most)
        self._chat, self._most = chat, min(chat.reply.prompt_tokens, self._context - 1)
        self._encode_once = lru_cache(KEPT)(self._encode)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prompts")

    async def encode(self, request: GenerationRequest) -> list[int]:
        """Token ids of a request's prompt, without the oldest turns if they do not fit.

        After them come those of a reply that has begun. The limit is the contract's, with which
        every policy was trained. A reply gets what the model's context leaves after it: see `room`.

        Raises:
            InvalidRequestError: Not even the last message fits, the chat template refuses it, or
                the model's context has no room after what has begun.
        """
        said = tuple((message["role"], message["content"]) for message in request.prompt)
        loop = asyncio.get_running_loop()
        encode = partial(self._encode_once, said, request.begun)
        return list(await loop.run_in_executor(self._thread, encode))

    def room(self, ids: Sequence[int]) -> int:
        """How many tokens a reply to an encoded prompt may have; at least one."""
        return max(1, self._context - len(ids))

    async def encode_replies(
        self, prompt: Sequence[PromptMessage], replies: Sequence[str]
    ) -> list[tuple[list[int], int]]:
        """Token ids of a prompt with each reply, and how many are the reply's; as for training."""

        def encode() -> list[tuple[list[int], int]]:
            return [self._chat.encode_pair(prompt, reply) for reply in replies]

        return await asyncio.get_running_loop().run_in_executor(self._thread, encode)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)

    def _encode(self, said: _Said, begun: str) -> tuple[int, ...]:
        prompt = [PromptMessage(role=role, content=text) for role, text in said]
        try:
            fitting = self._chat.encode_fitting(prompt, self._most)
            if fitting is not None:
                return self._with_begun(fitting[1], begun)
            fits = self._fits(prompt, self._most)
        except InvalidInputError as exc:
            raise InvalidRequestError(
                say("the model cannot take this conversation: {reason}", reason=str(exc))
            ) from exc
        raise TooLongError(
            say(
                "the last message does not fit the model: about {fits} of its {length} "
                "characters fit; shorten it",
                fits=fits,
                length=len(prompt[-1]["content"]),
            ),
            fits=fits,
        )

    def _with_begun(self, prompt: Sequence[int], begun: str) -> tuple[int, ...]:
        """A prompt and the reply that has begun."""
        if not begun:
            return tuple(prompt)
        ids = (*prompt, *self._chat.encode_reply(begun, finished=False))
        if len(ids) >= self._context:
            raise InvalidRequestError(
                "the reply fills what the model can read; ask for the rest in a message"
            )
        return ids

    def _fits(self, prompt: Sequence[PromptMessage], room: int) -> int:
        """About how many characters of the last message fit, as its tokens are spread over it."""
        head = [*takewhile(lambda message: message["role"] == "system", prompt)]
        if sum(len(message["content"]) for message in head) > COUNTED:
            return 0
        role, text = prompt[-1]["role"], prompt[-1]["content"][:COUNTED]

        def tokens(said: str) -> int:
            return len(self._chat.encode_prompt([*head, PromptMessage(role=role, content=said)]))

        bare = tokens(text[:1])
        fits = len(text) * max(0, room - bare) // max(1, tokens(text) - bare)
        while fits and tokens(text[:fits]) > room:
            fits = fits * 9 // 10
        return fits
