"""Of which pair of replies it is most uncertain which one people prefer, asked beside decoding.

The bare base reads the replies a part at a time, each between two steps of the decoder, so nobody's
reply waits for longer than for a part of somebody's prompt. What to make of the result comes from
the last cycle: a posterior beside its reward model (`rlhf_core/reward/acquisition.py`). Nothing
here draws lots.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from chat_app.engine.prompts import Prompts
from feedback_store.records import PromptMessage
from rlhf_core.model.adapters import verify_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.reward.acquisition import Pair, Uncertainty
from rlhf_core.reward.reading import Reading

BetweenSteps = Callable[[Callable[[], Any]], Awaitable[Any]]


class Doubts:
    """Asks the posterior of a reward model.

    Args:
        between_steps: Runs something in the thread that owns the model.
        key: As for `LocalEngine`.
    """

    def __init__(self, between_steps: BetweenSteps, *, key: bytes | None) -> None:
        self._between_steps, self._key = between_steps, key
        self._model: Uncertainty | None = None
        self._turn = asyncio.Lock()  # one part between two steps, whoever wants to read

    @property
    def known(self) -> bool:
        """Whether there is a posterior to ask."""
        return self._model is not None

    async def load(self, path: Path, *, base: str) -> None:
        """Verify a reward model and ask its posterior from now on.

        Raises:
            AdapterError: It does not verify, or has no posterior.
        """

        def verified() -> Uncertainty:
            verify_adapter(path, base=base, kind="reward", key=self._key)
            return Uncertainty.load(path)

        self._model = await asyncio.to_thread(verified)

    def drop(self) -> None:
        """Ask no posterior any more."""
        self._model = None

    async def of_pairs(
        self, base: Base, prompts: Prompts, prompt: Sequence[PromptMessage], replies: Sequence[str]
    ) -> Mapping[Pair, float]:
        """As `Engine.doubts`."""
        model = self._model
        if model is None:
            return {}
        encoded = await prompts.encode_replies(prompt, replies)
        async with self._turn:
            reading: Reading = await self._between_steps(partial(Reading, base, encoded))
            while not await self._between_steps(reading.read):
                pass
        return await asyncio.to_thread(_asked, model, reading)


def _asked(model: Uncertainty, reading: Reading) -> Mapping[Pair, float]:
    return {} if model.knows(reading.prompt) else model.of_pairs(reading.vectors)
