"""What a cycle will cost, known before it trains: whether it fits, how long each stage takes."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import AutoTokenizer

from rlhf_core.config import CycleSettings, ReplySettings, TrainingStage
from rlhf_core.cycle.snapshot import Snapshot
from rlhf_core.errors import ModelError, NoRoomError
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.model.facts import MachineFacts, ModelFacts, machine_facts, model_facts
from rlhf_core.model.loading import Quantization
from rlhf_core.records import Comparison
from rlhf_core.training.distributed import processes
from rlhf_core.training.plan import Estimate, Workload, estimate, workload
from rlhf_core.training.probe import Costs, measure

log = logging.getLogger(__name__)
WORTH_MEASURING = 20_000_000  # parameters: smaller models fit anywhere, and their cycles are short


@dataclass(frozen=True, slots=True)
class CyclePlan:
    """A cycle as it is planned for this machine.

    Attributes:
        model: The model's sizes.
        machine: The machine, before anything was measured.
        settings: The cycle's settings, with fewer rows at once where all of them would not fit.
        halvings: How often the rows at once were halved for that.
        estimate: The cost with these settings.
        costs: What a token costs here.
    """

    model: ModelFacts
    machine: MachineFacts
    settings: CycleSettings
    halvings: int
    estimate: Estimate
    costs: Costs

    @property
    def needed(self) -> float:
        """Bytes that must be free; on a GPU stages may still halve their rows at once."""
        return self.estimate.least if self.machine.device == "cuda" else self.estimate.memory

    @property
    def fits(self) -> bool:
        """Whether the cycle has room."""
        return self.needed <= self.machine.free


def plan_cycle(
    path: str,
    snapshot: Snapshot,
    settings: CycleSettings,
    reply: ReplySettings,
    quantization: Quantization,
    *,
    probes: int = 0,
) -> CyclePlan | None:
    """Plan a cycle that is about to begin; None for a model that is small or cannot be measured.

    Args:
        path: What transformers reads the model from.
        snapshot: What the cycle learns from.
        settings: The cycle's settings.
        reply: The contract of lengths.
        quantization: Of the base.
        probes: How many the gate asks.

    Raises:
        NoRoomError: The cycle needs more memory than is free, or its measuring does.
    """
    if model_facts(path).parameters < WORTH_MEASURING:
        return None
    work = work_of(snapshot, ChatFormat(AutoTokenizer.from_pretrained(path), reply), probes)
    try:
        plan = plan_work(path, work, settings, reply, quantization)
    except ModelError as exc:  # it trains all the same
        log.warning("this cycle is not planned: %s", exc)
        return None
    if not plan.fits:
        least, free = plan.estimate.least, plan.machine.free
        needed = least if least > free else plan.needed
        raise NoRoomError(
            f"a cycle needs at least {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; lower "
            "policy.batch_size or set gradient_checkpointing of the stages; or restart the server "
            "with --quantization nf4, a smaller model, or a lower reply.prompt_tokens or "
            "reply.tokens; `feedback-chat plan` shows if it fits then"
        )
    return plan


def plan_work(
    path: str,
    work: Workload,
    settings: CycleSettings,
    reply: ReplySettings,
    quantization: Quantization,
) -> CyclePlan:
    """Measure a few blocks of the model, and plan a cycle that reads so much.

    A GPU says when its memory runs out, and a stage begins again with fewer rows at once. A process
    that takes more of the CPU's memory than there is gets killed without a word. So there the rows
    at once are halved until the plan fits.
    """
    model, machine = model_facts(path), machine_facts()  # before the measuring, which takes memory
    costs = measure(
        path, quantization=quantization, lora=settings.lora, reply=reply, threads=settings.threads
    )

    def estimated(settings: CycleSettings) -> Estimate:
        return estimate(
            settings, reply, costs, model, work, quantization=quantization, device=machine.device
        )

    found, halvings = estimated(settings), 0
    ahead = machine.device == "cpu" and processes() == 1  # all processes need the same rows
    while ahead and found.least <= machine.free < found.memory:
        settings, halvings = _halved(settings), halvings + 1
        found = estimated(settings)
    return CyclePlan(model, machine, settings, halvings, found, costs)


def work_of(snapshot: Snapshot, chat: ChatFormat, probes: int = 0) -> Workload:
    """What a cycle on this snapshot has to read, and how many probes it asks."""
    comparisons = (*snapshot.train, *snapshot.held_out)
    judged = [(c.prompt, reply) for c in comparisons for reply in (c.response_a, c.response_b)]
    thumbs = snapshot.train_thumbs
    return workload(
        chat,
        [*judged, *((thumb.prompt, thumb.response) for thumb in thumbs)],
        opinions=[*_sizes(snapshot.train), *(1 for _ in snapshot.train_thumbs)],
        held_out=_sizes(snapshot.held_out),
        demonstrations=[(d.prompt, d.response) for d in snapshot.demonstrations],
        rollouts=[*snapshot.prompts, *snapshot.unvoted_prompts],
        rater_prompts=snapshot.held_out_rater_prompts,
        probes=probes,
    )


def _sizes(comparisons: Sequence[Comparison]) -> list[int]:
    """How many replies each opinion is about: two, or those of a whole ranking."""
    replies: defaultdict[str, set[str]] = defaultdict(set)
    for number, c in enumerate(comparisons):
        replies[c.group or f"alone {number}"] |= {c.response_a, c.response_b}
    return [len(group) for group in replies.values()]


def _halved(settings: CycleSettings) -> CycleSettings:
    """The settings with half as many rows at once, in each stage that allows it."""

    def smaller(stage: TrainingStage, rows: int) -> TrainingStage:
        at_once = min(stage.micro_batch_size or rows, rows)
        fewer = max(1, at_once // 2) if stage.halve_micro_batch else stage.micro_batch_size
        return stage.model_copy(update={"micro_batch_size": fewer})

    return settings.model_copy(
        update={
            "sft": smaller(settings.sft, settings.sft.batch_size),
            "reward": smaller(settings.reward, settings.reward.batch_size),
            "policy": smaller(settings.policy, settings.policy.minibatch_size),
        }
    )
