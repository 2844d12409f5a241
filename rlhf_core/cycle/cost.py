"""What a cycle will cost, known before it trains: whether it fits, how long each stage takes."""

from transformers import AutoTokenizer

from rlhf_core.config import CycleSettings, ReplySettings
from rlhf_core.cycle.snapshot import Snapshot
from rlhf_core.errors import NoRoomError
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.model.facts import machine_facts, model_facts
from rlhf_core.model.loading import Quantization
from rlhf_core.training.plan import Estimate, estimate, workload
from rlhf_core.training.probe import measure

WORTH_MEASURING = 20_000_000  # parameters: smaller models fit anywhere, and their cycles are short


def plan_cycle(
    path: str,
    snapshot: Snapshot,
    settings: CycleSettings,
    reply: ReplySettings,
    quantization: Quantization,
) -> Estimate | None:
    """Measure a few blocks of the model and plan the cycle; None for a small model.

    Args:
        path: What transformers reads the model from.
        snapshot: What the cycle learns from.
        settings: The cycle's settings.
        reply: The contract of lengths.
        quantization: Of the base.

    Raises:
        NoRoomError: The cycle needs more memory than is free.
    """
    model = model_facts(path)
    if model.parameters < WORTH_MEASURING:
        return None
    chat = ChatFormat(AutoTokenizer.from_pretrained(path), reply)
    pairs = [(c.prompt, c.response_a) for c in (*snapshot.train, *snapshot.held_out)]
    work = workload(
        chat,
        pairs,
        opinions=len(snapshot.train) + len(snapshot.train_thumbs),
        held_out=len(snapshot.held_out) + len(snapshot.held_out_thumbs),
        demonstrations=len(snapshot.demonstrations),
    )
    machine = machine_facts()  # before the measuring, which takes memory itself
    costs = measure(
        path,
        quantization=quantization,
        lora=settings.lora,
        threads=settings.threads,
    )
    planned = estimate(
        settings, reply, costs, model, work, quantization=quantization, device=machine.device
    )
    if planned.least > machine.free:
        raise NoRoomError(
            f"a cycle needs at least {planned.least / 1e9:.1f} GB and {machine.free / 1e9:.1f} GB "
            "are free; lower reply.prompt_tokens or reply.tokens, set the stages' "
            "gradient_checkpointing, or use a smaller model (see `feedback-chat plan`)"
        )
    return planned
