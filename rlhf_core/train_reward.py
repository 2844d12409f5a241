"""Train the reward model from comparisons and thumbs: an ensemble on the shared base.

Each member is trained on a bootstrap sample of the prompts (`reward/trainer.py`). The votes that it
has not seen set the temperature of the ensemble.
"""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from rlhf_core.config import LoraSettings, RewardSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.model.base_model import Base
from rlhf_core.records import Comparison, Demonstration, Unpaired
from rlhf_core.reward.calibration import fit_temperature, left_out_margins
from rlhf_core.reward.reward_data import RewardData, prompt_key
from rlhf_core.reward.reward_model import RewardModel, ScoreModel
from rlhf_core.reward.trainer import RewardTrainer, train_score_model
from rlhf_core.training.checkpoints import file_in
from rlhf_core.training.memory import out_of_memory_in_one_line
from rlhf_core.training.stage import Metrics, Progress

__all__ = ["RewardTrainer", "train_reward"]
LEFT_OUT = 0.1  # share of prompts that a single member does not see; it has no bootstrap sample
FEWEST_PROMPTS = 100  # with fewer, a single member sees all prompts


def train_reward(  # noqa: PLR0913  # every stage takes its inputs by name
    base: Base,
    comparisons: Sequence[Comparison],
    *,
    settings: RewardSettings,
    name: str,
    lora: LoraSettings | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    unpaired: Sequence[Unpaired] = (),
    demonstrations: Sequence[Demonstration] = (),
    checkpoints: Path | str | None = None,
) -> RewardModel:
    """Train an ensemble of reward models on ``base``; its adapters are ``{name}-m0`` and so on.

    Args:
        base: The shared base.
        comparisons: What raters preferred.
        settings: The reward model's settings.
        name: The adapters' names begin with it.
        lora: Size of the adapters.
        progress: Called as `(share, metrics)` after every optimizer step.
        seed: Seed of everything random here.
        unpaired: Thumbs without an opposite.
        demonstrations: Their mean score becomes 0, if there are `min_demonstrations`.
        checkpoints: Directory of the members' checkpoints, from which a killed run resumes.

    Raises:
        NotEnoughDataError: No comparison prefers one response over the other.
        CheckpointError: A checkpoint is of other data or settings.
        DivergenceError: The loss is not finite, or too large.
        MemoryExhaustedError: Memory ran out.
    """
    if not any(map(_decides, comparisons)):
        raise NotEnoughDataError(
            f"none of {len(comparisons)} comparisons prefers a response; collect more votes"
        )
    data = RewardData(base, comparisons, unpaired, settings)
    members: list[ScoreModel] = []
    left_out: list[set[str]] = []
    for k in range(settings.members):

        def report(share: float, metrics: Metrics, k: int = k) -> None:
            if progress is not None:
                progress((k + share) / settings.members, metrics)

        rng, adapter = random.Random(f"{seed}-{k}"), f"{name}-m{k}"
        drawn = _draw(data.prompts, settings.members, rng)
        while not data.decides(drawn):  # a sample of ties alone teaches nothing
            drawn = _draw(data.prompts, settings.members, rng)
        opinions = data.opinions(drawn, rng)
        start = rng.randrange(2**31)
        base.attach(adapter, lora=lora, seed=start)
        torch.manual_seed(start)  # of the score head's weights
        member = train_score_model(
            base,
            opinions,
            adapter=adapter,
            raters=data.raters,
            settings=settings,
            report=report,
            seed=seed * 100 + k,
            file=file_in(checkpoints, adapter),
        )
        members.append(member)
        left_out.append(set(data.prompts) - drawn.keys())
    model = RewardModel(base, members, spread_penalty=settings.spread_penalty)
    with out_of_memory_in_one_line("reply.prompt_tokens or reply.tokens"):
        _normalise(model, comparisons, left_out)
        if len(demonstrations) >= settings.min_demonstrations:
            model.centre([d.prompt for d in demonstrations], [d.response for d in demonstrations])
    return model


def _decides(c: Comparison) -> bool:
    return c.label != "tie" and c.weight > 0 and c.response_a != c.response_b


def _draw(prompts: Sequence[str], members: int, rng: random.Random) -> Counter[str]:
    """How often each prompt is in a member's sample: a bootstrap, or most prompts for one member.

    Prompts are drawn, not votes, so that a member has seen no vote on the prompts it left out.
    """
    if members > 1:
        return Counter(rng.choice(prompts) for _ in prompts)
    left_out = round(LEFT_OUT * len(prompts)) if len(prompts) >= FEWEST_PROMPTS else 0
    return Counter(rng.sample(prompts, len(prompts) - left_out))


def _normalise(
    model: RewardModel, comparisons: Sequence[Comparison], left_out: Sequence[set[str]]
) -> None:
    """Set the members' scales, and the temperature from the votes that members left out.

    Every vote is predicted by the members that have not seen its prompt. So this needs no votes of
    its own, and no held-out votes.
    """
    n, prompts = len(comparisons), [c.prompt for c in comparisons]
    responses = [c.response_a for c in comparisons] + [c.response_b for c in comparisons]
    scores = model.normalise(prompts * 2, responses)  # (members, 2N)
    keys = [prompt_key(prompt) for prompt in prompts]
    unseen = torch.tensor([[key in out for key in keys] for out in left_out])  # (members, N)
    margins = left_out_margins(scores[:, :n] - scores[:, n:], unseen)  # (N,)
    signs = torch.tensor([{"a": 1.0, "b": -1.0, "tie": 0.0}[c.label] for c in comparisons])  # (N,)
    # pairs of two raters' thumbs also show their habits, not only which response is better
    across = torch.tensor([c.raters is not None for c in comparisons])
    usable = unseen.any(0) & (signs != 0) & ~across
    weights = torch.tensor([c.weight for c in comparisons])
    model.temperature = fit_temperature((margins * signs)[usable], weights[usable])
