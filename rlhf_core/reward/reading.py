"""The vectors of several replies to one prompt, read in parts: beside replies that people wait for.

The prompt is read once, then all replies together, each part with the keys and values of those
before it. The numbers are those of `heads.vectors_of`, but for rounding. Between two parts the
model may do anything else.

Shapes: N replies of at most W tokens, T tokens of a part, d numbers in a vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from rlhf_core.model.base_model import Base
from rlhf_core.model.token_batches import part_tokens


class Reading:
    """Reads as `read` is called, until that is true; then it has the result.

    Args:
        base: The shared base.
        pairs: Tokens of the prompt with each reply, and how many are the reply's, from
            `encode_pair`: the same prompt each time.

    Attributes:
        prompt: The mean state over the prompt. (d / 2,)
        vectors: As from `heads.vectors_of`. (N, d) in float64
    """

    def __init__(self, base: Base, pairs: Sequence[tuple[Sequence[int], int]]) -> None:
        heads = {tuple(ids[: len(ids) - own]) for ids, own in pairs}
        if len(heads) != 1:
            raise ValueError(f"{len(heads)} prompts; replies are read together if they answer one")
        self._base, self._cache = base, DynamicCache()
        self._head = torch.tensor([*heads], device=base.device)  # (1, tokens of the prompt)
        replies = [ids[len(ids) - own :] for ids, own in pairs]
        # What stands right of a reply's end is seen by nothing that counts: attention is causal.
        self._replies, mask = base.pad(replies, side="right")  # (N, W) each
        self._mask = mask.cpu()
        self._parts: list[Tensor] = []  # states of the replies so far
        self._read = 0  # columns, of the prompt and then of the replies
        half = base.model.config.get_text_config().hidden_size
        self.prompt = torch.zeros(half, dtype=torch.float64)
        self.vectors = torch.zeros((len(replies), 2 * half), dtype=torch.float64)

    @torch.no_grad()
    def read(self) -> bool:
        """Read one more part; whether that was the last."""
        most, head = part_tokens(self._base.device), self._head.shape[1]
        if self._read < head:
            part = self._head[:, self._read :][:, :most]  # (1, T)
            self.prompt += self._states(part)[0].sum(0) / head
            if self._read == head:
                self._cache.batch_repeat_interleave(len(self._replies))
            return False
        columns = max(1, most // len(self._replies))
        part = self._replies[:, self._read - head :][:, :columns]  # (N, T)
        self._parts.append(self._states(part))
        if self._read < head + self._replies.shape[1]:
            return False
        self.vectors = self._pooled(torch.cat(self._parts, dim=1))
        return True

    def _pooled(self, states: Tensor) -> Tensor:
        """The state at each reply's end, and beside it the mean over the reply; (N, d)."""
        lengths = self._mask.sum(1)  # (N,)
        ends = states[torch.arange(len(states)), lengths - 1]
        sums = (states * self._mask[..., None]).sum(1)
        return torch.cat([ends, sums / lengths[:, None]], dim=1)

    def _states(self, part: Tensor) -> Tensor:
        """The last hidden states of a part, of which the cache then knows; (rows, T, d / 2)."""
        end = self._read + part.shape[1]
        positions = torch.arange(self._read, end, device=part.device)
        with self._base.using(None):
            out = self._base.model.get_decoder()(
                input_ids=part,
                attention_mask=torch.ones((len(part), end), dtype=torch.long, device=part.device),
                position_ids=positions.expand(len(part), -1),
                past_key_values=self._cache,
                use_cache=True,
            )
        self._read = end
        found: Tensor = out.last_hidden_state.double().cpu()
        return found
