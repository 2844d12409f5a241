"""What a cycle will cost: hours and peak memory, from the settings and what one token costs here.

`estimate` is arithmetic alone. `probe.py` measures the costs, and the caller counts the data. A
stage's seconds are its tokens times what a token costs; nothing is fitted to whole cycles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rlhf_core.config import CycleSettings, ReplySettings, TrainingStage
from rlhf_core.errors import InvalidInputError
from rlhf_core.model.base_model import DECODED
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.model.facts import ModelFacts
from rlhf_core.records import Prompt
from rlhf_core.training.probe import Costs
from rlhf_core.training.stage import passes

BITS = {"nf4": 4.5, "int8": 8.25}  # of a packed weight with its scales
NUMBER_BYTES = {"cpu": 4.0, "cuda": 2.0}  # of what is not packed; see `load_base`
PROCESS_BYTES = 1.0e9  # Python with torch, transformers and TRL, before a model
# Bytes of the process for each byte of a pass: what glibc's heap freed in pieces stays with the
# process. Measured on SmolLM2 (docs/results.md, "What a cycle needs"); not yet on a GPU.
ALLOCATED = {"cpu": 1.4, "cuda": 1.0}
SAMPLED = 20.0  # bytes for each token of the vocabulary: logits, probabilities, and their sum
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
        prompt_tokens: Mean length of a prompt with a vote.
        reply_tokens: Mean length of a reply.
        longest_prompt: Tokens of the longest prompt; None if it may have as many as allowed.
        longest_reply: The same of a reply.
        each: Replies that an opinion is about, in the mean; a ranking is about more than two.
        most_each: The most replies of one opinion.
        rater_prompts: Prompts on which the gate compares policies once more, for the report.
        rollout_prompt_tokens: Mean length of the prompts of PPO; None if as of those with votes.
        probes: Questions that the gate asks both policies, about as long as prompts with votes.
    """

    opinions: int
    held_out: int
    demonstrations: int
    prompt_tokens: float
    reply_tokens: float
    longest_prompt: int | None = None
    longest_reply: int | None = None
    each: float = 2.0
    most_each: int = 2
    rater_prompts: int = 0
    rollout_prompt_tokens: float | None = None
    probes: int = 0


def workload(
    chat: ChatFormat,
    pairs: Sequence[tuple[Prompt, str]],
    *,
    opinions: Sequence[int],
    held_out: Sequence[int],
    demonstrations: Sequence[tuple[Prompt, str]] = (),
    rollouts: Sequence[Prompt] = (),
    rater_prompts: Sequence[Prompt] = (),
    probes: int = 0,
) -> Workload:
    """What a cycle has to read.

    Args:
        chat: The contract of lengths.
        pairs: Prompts and replies with votes; some of them, and the longest ones of all that is
            given here, tell the lengths.
        opinions: Of each training opinion, how many replies it is about.
        held_out: The same for the held-out reward model.
        demonstrations: Prompts and rewritten answers.
        rollouts: Prompts that PPO answers.
        rater_prompts: Prompts of held-out raters.
        probes: How many questions the gate asks.
    """
    rows = _lengths(chat, _some(pairs))
    answered = [(prompt, "") for prompt in rollouts]
    every = [*pairs, *demonstrations, *answered, *((prompt, "") for prompt in rater_prompts)]
    asked = sorted(every, key=lambda pair: sum(len(turn["content"]) for turn in pair[0]))
    said = sorted(every, key=lambda pair: len(pair[1]))
    own_prompts = _lengths(chat, _some(answered))
    longest = _lengths(chat, [*asked[-COUNTED:], *said[-COUNTED:]])
    sizes = [*opinions, *held_out]
    return Workload(
        len(opinions),
        len(held_out),
        len(demonstrations),
        prompt_tokens=fmean(prompt for prompt, _ in rows) if rows else 0.0,
        reply_tokens=fmean(own for _, own in rows) if rows else float(chat.reply.tokens),
        longest_prompt=max((prompt for prompt, _ in longest), default=None),
        longest_reply=max((own for _, own in longest), default=None),
        each=fmean(sizes) if sizes else 2.0,
        most_each=max(sizes, default=2),
        rater_prompts=len(rater_prompts),
        rollout_prompt_tokens=fmean(p for p, _ in own_prompts) if own_prompts else None,
        probes=probes,
    )


def _some(pairs: Sequence[tuple[Prompt, str]]) -> Sequence[tuple[Prompt, str]]:
    return pairs[:: max(1, len(pairs) // COUNTED)]


def _lengths(chat: ChatFormat, pairs: Sequence[tuple[Prompt, str]]) -> list[tuple[int, int]]:
    """Tokens of each prompt and of its reply, without what a cycle leaves out (`cycle/fitting`)."""
    found = []
    for prompt, reply in pairs:
        try:
            fitting = chat.fit_prompt(prompt)
        except InvalidInputError:  # one row of one visitor never stops a cycle
            continue
        if fitting is not None:
            ids, own = chat.encode_pair(fitting, reply)
            found.append((len(ids) - own, own - 1))
    return found


@dataclass(frozen=True, slots=True)
class Estimate:
    """A planned cycle.

    Attributes:
        seconds: Of each stage.
        sampled: Share of the reward stage that samples the reference.
        trained: Share of the reward stage that trains both reward models.
        memory: The most bytes at once.
        least: The same, once stages have halved their rows at once as far as they may.
    """

    seconds: dict[str, float]
    sampled: float
    trained: float
    memory: float
    least: float

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
    device: str,
) -> Estimate:
    """Plan one cycle.

    Args:
        settings: Resolved settings.
        reply: The contract of lengths.
        costs: What a token costs on this machine.
        model: The base's sizes.
        work: The data of the cycle.
        quantization: Of the base.
        device: What computes, "cpu" or "cuda".
    """
    work = replace(
        work,
        longest_prompt=min(work.longest_prompt or reply.prompt_tokens, reply.prompt_tokens),
        longest_reply=min(work.longest_reply or reply.tokens, reply.tokens),
    )
    pair = work.prompt_tokens + work.reply_tokens + 1  # tokens of a prompt with its reply
    token = NUMBER_BYTES[device] * model.width  # bytes of a hidden state
    sampled, trained, scored = _reward(settings, costs, work, pair, token_bytes=token)
    reward = sampled + trained + scored
    seconds = {
        "snapshot": LOADING,
        "sft": _sft(settings, costs, work, pair),
        "reward": reward,
        "policy": _policy(settings, costs, work, pair),
        "evaluate": _evaluate(settings, costs, work, pair),
        "publish": PUBLISHING,
    }
    memory, least = (
        _memory(
            settings,
            reply,
            costs,
            model,
            work,
            quantization=quantization,
            device=device,
            halved=halved,
        )
        for halved in (False, True)
    )
    return Estimate(seconds, sampled / reward, trained / reward, memory, least)


def _sft(settings: CycleSettings, costs: Costs, work: Workload, pair: float) -> float:
    """Training alone: the replies that choose the best pass of a later cycle are not counted."""
    sft = settings.sft
    if not sft.enabled or work.demonstrations < sft.min_demonstrations:
        return 0.0
    times = passes(
        work.demonstrations, batch_size=sft.batch_size, epochs=sft.epochs, min_steps=sft.min_steps
    )
    learned = pair * _trained(costs, sft) + work.reply_tokens * 3 * costs.head
    return times * work.demonstrations * learned


def _reward(
    settings: CycleSettings, costs: Costs, work: Workload, pair: float, *, token_bytes: float
) -> tuple[float, float, float]:
    """The reference's samples, training, and the scores that test both reward models."""
    reward = settings.reward
    sampled = _replies(costs, work, reward.reference_samples)
    replies = round(work.each * (work.opinions + work.held_out)) + reward.reference_samples
    trained, opinions = 0.0, work.opinions
    scored = _scores(settings, costs, replies, pair, members=reward.members)
    scored += replies * pair * costs.read  # the held-out reward model's: one pass for all heads
    if opinions:
        times = passes(
            opinions, batch_size=reward.batch_size, epochs=reward.epochs, min_steps=reward.min_steps
        )
        tokens = opinions * work.each * pair
        kept = min(1.0, reward.kept_bytes / (tokens * token_bytes))  # the others are read again
        below = (1 - reward.layers) * (1 - kept) * costs.read
        learned = reward.layers * _trained(costs, reward) + below
        trained = reward.members * times * tokens * learned
    return sampled, trained, scored


def _scores(
    settings: CycleSettings, costs: Costs, replies: int, pair: float, *, members: int
) -> float:
    """A reward model's scores: the lower layers once, the upper ones for each member."""
    layers = settings.reward.layers
    return replies * pair * costs.read * (1 - layers + members * layers)


def _policy(settings: CycleSettings, costs: Costs, work: Workload, pair: float) -> float:
    policy = settings.policy
    batch, own = policy.batch_size, work.reply_tokens + 1
    if work.rollout_prompt_tokens is not None:
        pair += work.rollout_prompt_tokens - work.prompt_tokens
        work = replace(work, prompt_tokens=work.rollout_prompt_tokens)
    sampled = _replies(costs, work, batch, at_once=batch)
    read = batch * 2 * (pair * costs.read + own * costs.head)  # policy and reference
    read += _scores(settings, costs, batch, pair, members=settings.reward.members)
    learned = policy.epochs * batch * (pair * _trained(costs, policy) + own * 3 * costs.head)
    return policy.iterations * (sampled + read + learned)


def _evaluate(settings: CycleSettings, costs: Costs, work: Workload, pair: float) -> float:
    """Both policies' replies, their scores, log-probabilities, and their replies to probes."""
    gate, most = settings.gate, settings.data.most_gate_prompts
    asked = [min(work.held_out, most)]
    if work.rater_prompts >= gate.min_prompts:
        asked.append(work.rater_prompts)
    seconds = 2 * _replies(costs, work, work.probes)
    for prompts in asked:
        n = max(gate.prompts, prompts)  # few prompts are asked again
        sampled = _replies(costs, work, n)
        known = 3 * n * (pair * costs.read + (work.reply_tokens + 1) * costs.head)
        seconds += 2 * (sampled + n * pair * costs.read) + known
    return seconds


def _trained(costs: Costs, stage: TrainingStage) -> float:
    """Seconds to train on a token; gradient checkpointing reads it once more."""
    return costs.train + (costs.read if stage.gradient_checkpointing else 0.0)


def _replies(costs: Costs, work: Workload, n: int, *, at_once: int = DECODED) -> float:
    """Seconds to read prompts and to reply to them, so many at once; a rollout is one batch."""
    whole, rest = divmod(n, at_once)
    decoded = whole * _decode(costs, work, at_once) + (_decode(costs, work, rest) if rest else 0.0)
    return decoded + n * work.prompt_tokens * costs.read


def _decode(costs: Costs, work: Workload, rows: int) -> float:
    """Seconds to decode replies together: each leaves the batch when it ends."""
    assert work.longest_reply is not None, "`estimate` fills it"
    alone = (work.longest_reply + 1) * (costs.step - costs.row)
    return alone + rows * (work.reply_tokens + 1) * costs.row


def _memory(
    settings: CycleSettings,
    reply: ReplySettings,
    costs: Costs,
    model: ModelFacts,
    work: Workload,
    *,
    quantization: str,
    device: str,
    halved: bool,
) -> float:
    """The most bytes at once, if the longest prompts come together and get replies as long.

    Args:
        settings: Resolved settings.
        reply: The contract of lengths.
        costs: What a token costs on this machine.
        model: The base's sizes.
        work: The data of the cycle.
        quantization: Of the base.
        device: What computes; on a GPU its memory is meant, which holds no Python.
        halved: Whether stages that may halve their rows at once have come down to one.
    """
    policy, reward, number = settings.policy, settings.reward, NUMBER_BYTES[device]
    assert work.longest_prompt is not None, "`estimate` fills it"
    window = work.longest_prompt + reply.tokens  # of the longest row
    packed = BITS.get(quantization, 8 * number) / 8 * model.linear_parameters
    weights = number * (model.parameters - model.linear_parameters) + packed
    # beside the reward model's members: the reference, the served policy, and what a stage that
    # halves its rows begins again with
    frozen = reward.members + 3
    adapters = 4.0 * costs.adapter * (frozen + ADAM)
    logits = 4.0 * 3 * model.vocabulary  # of one token, with their log-probabilities and gradients

    def trained(stage: TrainingStage, batch: int, *, layers: float = 1.0, head: bool) -> float:
        """Bytes that a training pass of a stage keeps."""
        kept = costs.kept
        if stage.gradient_checkpointing:  # what enters each block, and one block's own
            kept = number * model.width * model.layers + kept / model.layers
        rows = 1 if halved and stage.halve_micro_batch else stage.micro_batch_size or batch
        return rows * (window * kept * layers + head * reply.tokens * logits)

    # what the lower layers made of the replies that are compared, kept in the CPU's memory
    pair = work.prompt_tokens + work.reply_tokens
    states = work.each * work.opinions * pair * number * model.width
    states = min(reward.kept_bytes, states) if reward.layers < 1 and device == "cpu" else 0.0

    most = max(
        trained(settings.sft, settings.sft.batch_size, head=True),
        trained(policy, policy.minibatch_size, head=True),
        # all replies of an opinion, through the upper layers alone
        work.most_each * trained(reward, reward.batch_size, layers=reward.layers, head=False)
        + states,
        # decoding: the key-value cache, and sampling
        max(policy.batch_size, DECODED)
        * (number * window * model.layers * model.cache_width + SAMPLED * model.vocabulary),
    )
    process = PROCESS_BYTES if device == "cpu" else 0.0
    return process + weights + adapters + ALLOCATED[device] * most
