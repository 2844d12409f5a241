"""Train the reward model from comparisons and thumbs: an ensemble on the shared base.

Members begin as copies of one adapter, PPO's reference in a cycle, and train their upper layers.
So the layers below run once for each response, and not for each member and epoch (`trunk.py`). Each
member is trained on a bootstrap sample of the prompts (`reward/trainer.py`). The votes that it has
not seen set the temperature of the ensemble.

The score gets mean 0 and standard deviation 1 on samples of PPO's reference. It is measured in how
much the reference's own replies differ, so that `kl_coef` means the same in every cycle, whichever
replies people compared. Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.1.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from rlhf_core.config import LoraSettings, RewardSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.model.base_model import Base
from rlhf_core.records import Comparison, Prompt, Unpaired
from rlhf_core.reward.calibration import fit_temperature, left_out_margins
from rlhf_core.reward.reward_data import (
    RewardData,
    TokenizedOpinion,
    opinion_shares,
    prompt_key,
)
from rlhf_core.reward.reward_model import RewardModel, ScoreModel
from rlhf_core.reward.trainer import RewardTrainer, train_score_model
from rlhf_core.reward.trunk import Trunk, common_layers, first_trained_layer
from rlhf_core.training.checkpoints import file_in
from rlhf_core.training.memory import out_of_memory_in_one_line
from rlhf_core.training.stage import Metrics, Progress, passes

__all__ = ["RewardTrainer", "Samples", "train_reward"]
LEFT_OUT = 0.1  # share of prompts that a single member does not see; it has no bootstrap sample
FEWEST_PROMPTS = 100  # with fewer, a single member sees all prompts
# A reference that hardly varies must not make differences between other replies look huge: its
# standard deviation counts as at least this share of that on the compared replies.
LEAST_SD = 0.25
Sampling = Literal["bootstrap", "all"]
BACKWARD = 2.0  # cost of a backward pass through a layer, in forward passes


@dataclass(frozen=True, slots=True)
class Samples:
    """Replies that a policy gave, each beside its prompt."""

    prompts: tuple[Prompt, ...]
    responses: tuple[str, ...]


def train_reward(  # noqa: PLR0913  # every stage takes its inputs by name
    base: Base,
    comparisons: Sequence[Comparison],
    *,
    settings: RewardSettings,
    name: str,
    lora: LoraSettings | None = None,
    start: RewardModel | str | None = None,
    samples: Samples | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    unpaired: Sequence[Unpaired] = (),
    sample: Sampling = "bootstrap",
    checkpoints: Path | str | None = None,
) -> RewardModel:
    """Train an ensemble of reward models on ``base``; its adapters are ``{name}-m0`` and so on.

    Args:
        base: The shared base.
        comparisons: What raters preferred.
        settings: The reward model's settings.
        name: The adapters' names begin with it.
        lora: Size of the adapters, if they do not begin as copies.
        start: What members begin as copies of: an attached adapter, or the members of a reward
            model in turn, with their heads; without it they are new adapters.
        samples: The score gets mean 0 and standard deviation 1 on them; without them, on the
            compared responses. A cycle gives samples of PPO's reference.
        progress: Called as `(share, metrics)`, the share being that of the work.
        seed: Seed of everything random here.
        unpaired: Thumbs without an opposite.
        sample: Prompts that a member learns from: a ``bootstrap`` sample (of a single member: most
            of them), or ``all``. Votes on those that it left out set the temperature; without any,
            a difference of scores is no log-odds.
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
    # 1. What each member begins as and learns from. All are attached before any is trained, to see
    #    which layers they have in common.
    members: list[ScoreModel] = []
    opinions: list[list[TokenizedOpinion]] = []
    learnt_from: list[set[str]] = []
    for k in range(settings.members):
        rng = random.Random(f"{seed}-{k}")
        drawn = Counter(data.prompts)
        if sample == "bootstrap":
            drawn = _draw(data.prompts, settings.members, rng)
        while not data.decides(drawn):  # a sample of ties alone teaches nothing
            drawn = _draw(data.prompts, settings.members, rng)
        opinions.append(data.opinions(drawn, rng))
        learnt_from.append(set(drawn))
        member_seed = rng.randrange(2**31)
        like = start.members[k % len(start.members)] if isinstance(start, RewardModel) else start
        member = _new_member(
            base, f"{name}-m{k}", like, lora=lora, settings=settings, seed=member_seed
        )
        members.append(member)
    # 2. The layers below those that train, run once for each response.
    above = first_trained_layer(base, settings.layers)
    common = common_layers(base, [member.adapter for member in members])
    trunk = Trunk(base, members[0].adapter, min(above, common), most_bytes=settings.kept_bytes)
    rows = {row for own in opinions for opinion in own for row in opinion.responses}
    work = _Work(progress, len(base.layers) or 1, trunk.depth, len(rows), opinions, settings)
    with out_of_memory_in_one_line("reply.prompt_tokens, reply.tokens or reward.kept_bytes"):
        trunk.read(rows, done=work.read)
    # 3. Each member by itself.
    for k, member in enumerate(members):
        train_score_model(
            member,
            opinions[k],
            trunk=trunk,
            above=above,
            raters=data.raters,
            settings=settings,
            report=work.of_member(k),
            seed=seed * 100 + k,
            file=file_in(checkpoints, member.adapter),
        )
    # 4. The scale and zero of the score, and how sure it may be.
    model = RewardModel(base, members, spread_penalty=settings.spread_penalty, trunk=trunk)
    model.learnt_from = learnt_from
    with out_of_memory_in_one_line("reply.prompt_tokens or reply.tokens"):
        _normalise(model, comparisons, samples)
        _fit_temperature(model, comparisons)
    trunk.forget()
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


def _new_member(
    base: Base,
    adapter: str,
    like: ScoreModel | str | None,
    *,
    lora: LoraSettings | None,
    settings: RewardSettings,
    seed: int,
) -> ScoreModel:
    """A member that begins like another one, like an adapter, or new."""
    source = like.adapter if isinstance(like, ScoreModel) else like
    if source is None:
        base.attach(adapter, lora=lora, seed=seed)
    else:
        base.copy_adapter(source, adapter)
    torch.manual_seed(seed)  # of the score head's weights
    member = ScoreModel(base, adapter)
    member.head.weight.data *= settings.head_scale
    if isinstance(like, ScoreModel):
        member.head.load_state_dict(like.head.state_dict())
    return member


def _normalise(
    model: RewardModel, comparisons: Sequence[Comparison], samples: Samples | None
) -> None:
    """Set the members' zero and scale: on the compared responses, then on samples if given."""
    compared = {  # each once: a ranking has each of its responses in several pairs
        (prompt_key(c.prompt), text): (c.prompt, text)
        for c in comparisons
        for text in (c.response_a, c.response_b)
    }
    model.normalise(*zip(*compared.values(), strict=True))
    if samples is not None:
        model.normalise(samples.prompts, samples.responses, least=LEAST_SD)


def _fit_temperature(model: RewardModel, comparisons: Sequence[Comparison]) -> None:
    """Set the temperature from the votes that members left out; a ranking is one vote.

    Every vote is predicted by the members that have not seen its prompt. So this needs no votes of
    its own, and no held-out votes.
    """
    n, prompts = len(comparisons), [c.prompt for c in comparisons]
    responses = [c.response_a for c in comparisons] + [c.response_b for c in comparisons]
    scores = model.member_scores(prompts * 2, responses)  # (members, 2N)
    unseen = model.unseen(prompts)  # (members, N)
    margins = left_out_margins(scores[:, :n] - scores[:, n:], unseen)  # (N,)
    signs = torch.tensor([{"a": 1.0, "b": -1.0, "tie": 0.0}[c.label] for c in comparisons])  # (N,)
    # pairs of two raters' thumbs also show their habits, not only which response is better
    across = torch.tensor([c.raters is not None for c in comparisons])
    usable = unseen.any(0) & (signs != 0) & ~across
    shares = torch.tensor(opinion_shares(comparisons))  # (N,)
    weights = shares * torch.tensor([c.weight for c in comparisons])
    model.temperature = fit_temperature(
        (margins * signs)[usable], weights[usable], votes=shares[usable].sum().item()
    )


def _passes(rows: int, settings: RewardSettings) -> int:
    return passes(
        rows,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        min_steps=settings.min_steps,
    )


class _Work:
    """How much of the work is done, counted in forward passes of one response through one layer."""

    def __init__(
        self,
        progress: Progress | None,
        layers: int,
        depth: int,
        rows: int,
        opinions: Sequence[Sequence[TokenizedOpinion]],
        settings: RewardSettings,
    ) -> None:
        self._progress, self._depth = progress, depth
        self._members = [
            _passes(len(own), settings)
            * sum(len(opinion.responses) for opinion in own)
            * (layers - depth)
            * (1 + BACKWARD)
            for own in opinions
        ]
        self._whole = rows * depth + sum(self._members)
        self._done = 0.0

    def read(self, rows: int) -> None:
        """The trunk has read so many more responses."""
        self._done += rows * self._depth
        self._report(self._done, {})

    def of_member(self, k: int) -> Callable[[float, Metrics], None]:
        """The progress callback of one member."""
        before = self._whole - sum(self._members[k:])
        return lambda share, metrics: self._report(before + share * self._members[k], metrics)

    def _report(self, done: float, metrics: Metrics) -> None:
        if self._progress is not None:
            self._progress(min(1.0, done / self._whole), metrics)
