"""What a cycle will cost: hours and peak memory, from the settings and what one token costs here.

`estimate` is arithmetic alone. `probe.py` measures the costs, and the caller counts the data. A
stage's seconds are its tokens times what a token costs; nothing is fitted to whole cycles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from rlhf_core.config import CycleSettings, ReplySettings
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.model.facts import ModelFacts
from rlhf_core.records import Prompt
from rlhf_core.training.probe import Costs
from rlhf_core.training.stage import passes

BITS = {"nf4": 4.5, "int8": 8.25, "none": 32.0}  # of a packed weight with its scales, on a CPU
PROCESS_BYTES = 1.0e9  # Python with torch, transformers and TRL, before a model
ADAM = 4  # numbers for each trained one: itself, its gradient, and Adam's two means
COUNTED = 200  # replies whose tokens are counted, and as many of the longest ones
LOADING, PUBLISHING = 15.0, 5.0  # seconds: imports and the base; adapters and the report


@dataclass(frozen=True, slots=True)
class Workload:
    """How much a cycle has to read.

    Attributes:
        opinions: Training votes, each one opinion.
        held_out: The same, for the held-out reward model.
        demonstrations: Rewritten answers.
        prompt_tokens: Mean length of a prompt.
        reply_tokens: Mean length of a reply.
        longest_prompt: Tokens of the longest prompt; None if it may have as many as allowed.
    """

    opinions: int
    held_out: int
    demonstrations: int
    prompt_tokens: float
    reply_tokens: float
    longest_prompt: int | None = None


def workload(
    chat: ChatFormat,
    pairs: Sequence[tuple[Prompt, str]],
    *,
    opinions: int,
    held_out: int,
    demonstrations: int,
) -> Workload:
    """What a cycle has to read; the lengths are those of some of its prompts and replies."""
    step = max(1, len(pairs) // COUNTED)
    rows = _lengths(chat, pairs[::step])
    by_length = sorted(pairs, key=lambda pair: sum(len(turn["content"]) for turn in pair[0]))
    longest = _lengths(chat, by_length[-COUNTED:])
    return Workload(
        opinions,
        held_out,
        demonstrations,
        prompt_tokens=fmean(prompt for prompt, _ in rows) if rows else 0.0,
        reply_tokens=fmean(own for _, own in rows) if rows else float(chat.reply.tokens),
        longest_prompt=max((prompt for prompt, _ in longest), default=None),
    )


def _lengths(chat: ChatFormat, pairs: Sequence[tuple[Prompt, str]]) -> list[tuple[int, int]]:
    """Tokens of each prompt and of its reply, where the prompt can be rendered."""
    fitting = [(prompt, reply) for prompt, reply in pairs if chat.fit_prompt(prompt)]
    rows = [chat.encode_pair(prompt, reply) for prompt, reply in fitting]
    return [(len(ids) - own, own - 1) for ids, own in rows]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A planned cycle: seconds of each stage, and the most bytes at once."""

    seconds: dict[str, float]
    memory: float

    @property
    def shares(self) -> dict[str, float]:
        """Share of each stage in the whole time."""
        whole = sum(self.seconds.values())
        return {stage: seconds / whole for stage, seconds in self.seconds.items()}

    @property
    def hours(self) -> float:
        """Of the whole cycle."""
        return sum(self.seconds.values()) / 3600


def estimate(
    settings: CycleSettings,
    reply: ReplySettings,
    costs: Costs,
    model: ModelFacts,
    work: Workload,
    *,
    quantization: str,
) -> Estimate:
    """Plan one cycle.

    Args:
        settings: Resolved settings.
        reply: The contract of lengths.
        costs: What a token costs on this machine.
        model: The base's sizes.
        work: The data of the cycle.
        quantization: Of the base.
    """
    pair = work.prompt_tokens + work.reply_tokens + 1  # tokens of a prompt with its reply
    seconds = {
        "snapshot": LOADING,
        "sft": _sft(settings, costs, work, pair),
        "reward": _reward(settings, costs, work, pair),
        "policy": _policy(settings, costs, work, pair),
        "evaluate": _evaluate(settings, costs, work, pair),
        "publish": PUBLISHING,
    }
    longest = work.longest_prompt or reply.prompt_tokens
    window = min(longest, reply.prompt_tokens) + reply.tokens
    return Estimate(seconds, _memory(settings, reply, costs, model, quantization, window))


def _sft(settings: CycleSettings, costs: Costs, work: Workload, pair: float) -> float:
    sft = settings.sft
    if not sft.enabled or work.demonstrations < sft.min_demonstrations:
        return 0.0
    times = passes(
        work.demonstrations, batch_size=sft.batch_size, epochs=sft.epochs, min_steps=sft.min_steps
    )
    learned = pair * costs.train + work.reply_tokens * 3 * costs.head
    return times * work.demonstrations * learned


def _reward(settings: CycleSettings, costs: Costs, work: Workload, pair: float) -> float:
    """Both ensembles: the reference's samples, training, and the scores that test them."""
    reward = settings.reward
    sampled = ceil(reward.reference_samples / 64) * _decode(costs, work, 64)
    replies = 2 * (work.opinions + work.held_out)  # each is read by both ensembles
    seconds = sampled + 2 * _scores(settings, costs, replies + reward.reference_samples, pair)
    for opinions in filter(None, (work.opinions, work.held_out)):
        times = passes(
            opinions, batch_size=reward.batch_size, epochs=reward.epochs, min_steps=reward.min_steps
        )
        trained = reward.members * times * opinions * 2 * reward.layers  # the upper layers alone
        seconds += trained * pair * costs.train
    return seconds


def _scores(settings: CycleSettings, costs: Costs, replies: int, pair: float) -> float:
    """An ensemble's scores of replies: the lower layers once, the upper ones for each member."""
    layers, members = settings.reward.layers, settings.reward.members
    return replies * pair * costs.read * (1 - layers + members * layers)


def _policy(settings: CycleSettings, costs: Costs, work: Workload, pair: float) -> float:
    policy = settings.policy
    batch, own = policy.batch_size, work.reply_tokens + 1
    sampled = batch * work.prompt_tokens * costs.read + _decode(costs, work, batch)
    read = batch * 2 * (pair * costs.read + own * costs.head)  # policy and reference
    read += _scores(settings, costs, batch, pair)
    learned = policy.epochs * batch * (pair * costs.train + own * 3 * costs.head)
    return policy.iterations * (sampled + read + learned)


def _evaluate(settings: CycleSettings, costs: Costs, work: Workload, pair: float) -> float:
    """Both policies' replies, their scores, and log-probabilities under the base and the policy."""
    n = settings.gate.prompts
    sampled = ceil(n / 64) * _decode(costs, work, min(n, 64)) + n * work.prompt_tokens * costs.read
    known = 3 * n * (pair * costs.read + (work.reply_tokens + 1) * costs.head)
    return 2 * (sampled + _scores(settings, costs, n, pair)) + known


def _decode(costs: Costs, work: Workload, rows: int) -> float:
    """Seconds to decode replies together; the longest of them ends the batch."""
    return (work.reply_tokens + 1) * (costs.step + (rows - 1) * costs.row)


def _memory(
    settings: CycleSettings,
    reply: ReplySettings,
    costs: Costs,
    model: ModelFacts,
    quantization: str,
    window: int,
) -> float:
    """The most bytes at once, if the longest prompts come together and get replies as long."""
    policy, members = settings.policy, settings.reward.members
    plain = model.parameters - model.linear_parameters
    weights = 4.0 * plain + BITS[quantization] / 8 * model.linear_parameters
    frozen = 2 * members + 2  # both ensembles, the reference and the served policy
    adapters = 4.0 * costs.adapter * (frozen + ADAM)
    logits = 4.0 * 3 * model.vocabulary
    rows = {
        "sft": settings.sft.micro_batch_size or settings.sft.batch_size,
        "reward": 2 * (settings.reward.micro_batch_size or settings.reward.batch_size),
        "policy": policy.micro_batch_size or policy.minibatch_size,
    }
    trained = {
        stage: n * (window * costs.kept + reply.tokens * logits) for stage, n in rows.items()
    }
    trained["reward"] = rows["reward"] * window * costs.kept * settings.reward.layers  # no head
    cache = 4.0 * policy.batch_size * window * model.layers * model.cache_width
    rollout = cache + policy.batch_size * logits
    return PROCESS_BYTES + weights + adapters + max(*trained.values(), rollout)
