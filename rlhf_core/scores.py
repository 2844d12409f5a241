"""What scores responses: a reward model's method, a rule, a service; any function of this shape."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_core.errors import InvalidInputError
from rlhf_core.records import Prompt

Score = Callable[[Sequence[Prompt], Sequence[str]], Tensor | Sequence[float]]  # (B,)


def scores_of(score: Score, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
    """The scores of responses, whatever kind of numbers the function gives; (B,).

    Raises:
        InvalidInputError: It does not give one number for each response.
    """
    found: Any = score(prompts, responses)
    try:
        scores = torch.as_tensor(found, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError) as exc:
        raise InvalidInputError(
            f"the score function gave {type(found).__name__}; use one number for each response"
        ) from exc
    if scores.shape != (len(responses),):
        raise InvalidInputError(
            f"the score function gave shape {tuple(scores.shape)} for {len(responses)} responses; "
            "use one number for each"
        )
    return scores
