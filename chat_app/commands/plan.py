"""The command `plan`: what would be used for a model here, and what a cycle would cost.

It loads no weights: it reads the model's configuration and times a few blocks of its kind.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel

from chat_app.commands.find_model import require_model
from chat_app.commands.options import Config, Data, Json, Model, Profiled, Quantized
from chat_app.profile import model_path, with_profile
from chat_app.settings import Settings, load_settings
from feedback_store.store import FeedbackStore

if TYPE_CHECKING:
    from rlhf_core.model.chat_format import ChatFormat
    from rlhf_core.training.plan import Workload

ASSUMED_VOTES = 240  # a plan without votes is for as many
ASSUMED_PROMPT, ASSUMED_REPLY = 40.0, 0.8  # tokens; and the share of the longest reply
ADVICE = (
    "lower reply.tokens or reply.prompt_tokens: memory is planned for the longest replies",
    "set gradient_checkpointing of cycle.sft, cycle.reward and cycle.policy",
    "use --quantization nf4, or a smaller model",
)
SHOWN = ("profile", "quantization", "engine", "reply", "cycle")  # what a profile may decide


def plan(
    data: Data = None,
    model: Model = None,
    profile: Profiled = None,
    quantization: Quantized = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what is used for a model on this machine, and a cycle's hours and memory."""
    options = {"model": model, "profile": profile, "quantization": quantization}
    given = load_settings(config, data=data, **options)
    require_model(given.model, given.models)
    settings = with_profile(given)
    if settings.database.is_file():
        with FeedbackStore(settings.database, allow_old_sqlite=settings.allow_old_sqlite) as store:
            store.refresh_comparisons()
    facts = {"settings": dict(_values(given, settings)), **cost(settings)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    _show(facts)


def _show(facts: dict[str, Any]) -> None:
    for name, (value, whose) in facts["settings"].items():
        typer.echo(f"{name:<34} {value!s:<12} {whose}")
    model, machine, work = facts["model"], facts["machine"], facts["work"]
    votes = work["opinions"] + work["held_out"]
    typer.echo(
        f"model      {model['name']}: {model['parameters'] / 1e6:,.1f}M parameters, "
        f"{model['layers']} blocks, context {model['context']}"
    )
    typer.echo(
        f"machine    {machine['device']}, {machine['cores']} cores, "
        f"{machine['free'] / 1e9:.1f} of {machine['memory'] / 1e9:.1f} GB free"
    )
    stages = ", ".join(f"{name} {s / 60:.1f}" for name, s in facts["seconds"].items() if s)
    typer.echo(
        f"one cycle  {facts['hours']:.2f} hours on {votes} votes"
        f"{' (assumed; there are none yet)' if work['assumed'] else ''}, minutes: {stages}"
    )
    fits = "fits" if facts["fits"] else "does not fit"
    typer.echo(
        f"memory     {facts['memory_gb']:.1f} GB, or {facts['least_gb']:.1f} GB with fewer rows at "
        f"once: {fits}"
    )
    for advice in facts["advice"]:
        typer.echo(f"  - {advice}")


def _values(given: BaseModel, used: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting that a profile may decide: its value, and who chose it."""
    for name in type(used).model_fields if prefix else SHOWN:
        before, now = getattr(given, name), getattr(used, name)
        if isinstance(now, BaseModel):
            yield from _values(before, now, f"{prefix}{name}.")
        elif name in given.model_fields_set:
            yield f"{prefix}{name}", (now, "set")
        else:
            yield f"{prefix}{name}", (now, "profile" if now != before else "default")


def cost(settings: Settings) -> dict[str, Any]:
    """The planned cost of one cycle on today's votes, after measurements of a few seconds."""
    from transformers import AutoTokenizer

    from rlhf_core.model.chat_format import ChatFormat
    from rlhf_core.model.facts import machine_facts, model_facts
    from rlhf_core.training.plan import estimate
    from rlhf_core.training.probe import measure

    path, machine = model_path(settings), machine_facts()
    model = model_facts(path)
    work, assumed = todays_work(
        settings, ChatFormat(AutoTokenizer.from_pretrained(path), settings.reply)
    )
    costs = measure(
        path,
        quantization=settings.packing,
        lora=settings.cycle.lora,
        threads=settings.cycle.threads,
    )
    found = estimate(
        settings.cycle,
        settings.reply,
        costs,
        model,
        work,
        quantization=settings.packing,
        device=machine.device,
    )
    fits = found.least <= machine.free
    return {
        "model": asdict(model) | {"name": settings.model},
        "machine": asdict(machine),
        "work": asdict(work) | {"assumed": assumed},
        "seconds": {stage: round(s, 1) for stage, s in found.seconds.items()},
        "hours": round(found.hours, 3),
        "memory_gb": round(found.memory / 1e9, 2),
        "fits": fits,
        "least_gb": round(found.least / 1e9, 2),
        "advice": [] if fits else list(ADVICE),
    }


def todays_work(settings: Settings, chat: "ChatFormat") -> "tuple[Workload, bool]":
    """What a cycle would read today; and whether that is assumed, because there are no votes."""
    from rlhf_core.training.plan import Workload, workload

    rows, written = [], 0
    if settings.database.is_file():
        with FeedbackStore(settings.database, allow_old_sqlite=settings.allow_old_sqlite) as store:
            rows, written = store.comparisons(), len(store.demonstrations(split="train"))
    if not rows:
        held_out = ASSUMED_VOTES // 4
        reply = ASSUMED_REPLY * settings.reply.tokens
        return Workload(ASSUMED_VOTES - held_out, held_out, 0, ASSUMED_PROMPT, reply), True
    data = settings.cycle.data
    found = workload(
        chat,
        [(c.prompt, c.response_a) for c in rows],
        opinions=min(data.most_opinions, sum(c.split == "train" for c in rows)),
        held_out=min(data.most_held_out, sum(c.split == "held_out" for c in rows)),
        demonstrations=min(data.most_demonstrations, written),
    )
    return found, False
