"""The command `plan`: what would be used for a model here, and what a cycle would cost.

It loads no weights: it reads the model's configuration and times a few blocks of its kind.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from math import ceil
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel

from chat_app.commands.find_model import resolved, settings_of_model
from chat_app.commands.options import Config, Data, Json, Model, Profiled, Quantized
from chat_app.profile import model_path
from chat_app.settings import Settings
from feedback_store.store import FeedbackStore

if TYPE_CHECKING:
    from rlhf_core.model.chat_format import ChatFormat
    from rlhf_core.training.plan import Workload

ASSUMED_VOTES = 240  # a plan without votes is for as many
ASSUMED_PROMPT, ASSUMED_REPLY = 40.0, 0.8  # tokens; and the share of the longest reply
BUSY = 0.5  # load average: from then on the times are those of a machine that others use, too
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
    given = settings_of_model(config, data=data, **options)
    settings = resolved(given)
    if settings.database.is_file():
        with FeedbackStore(settings.database, allow_old_sqlite=settings.allow_old_sqlite) as store:
            store.refresh_comparisons()
    facts = {"settings": dict(_values(given, settings)), **cost(settings)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    _show(facts)


def _show(facts: dict[str, Any]) -> None:
    width = max(map(len, facts["settings"]))
    for name, (value, whose) in facts["settings"].items():
        typer.echo(f"{name:<{width}} {value!s:<12} {whose}")
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
    fewer = f", with 1/{2 ** facts['halvings']} of the rows at once" if facts["halvings"] else ""
    typer.echo(
        f"memory     {facts['memory_gb']:.1f} GB{fewer} (at least {facts['least_gb']:.1f} GB, with "
        f"one row at once): {fits}"
    )
    alone, among = facts["reply_seconds"]
    rows, _ = facts["settings"]["engine.rows"]
    typer.echo(
        f"one reply  up to {alone:.0f} s alone, {among:.0f} s when {rows} are written at once"
    )
    if facts["load"] > BUSY:
        typer.echo(
            f"           timed at a load of {facts['load']:.1f}: other programs are running, and "
            "all of this takes less time on a quiet machine; plan there before you change a setting"
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

    from rlhf_core.cycle.cost import plan_work
    from rlhf_core.model.chat_format import ChatFormat

    load = os.getloadavg()[0]  # before the measurements, which add to it
    path = model_path(settings)
    chat = ChatFormat(AutoTokenizer.from_pretrained(path), settings.reply)
    work, assumed = todays_work(settings, chat)
    plan = plan_work(path, work, settings.cycle, settings.reply, settings.packing)
    found, costs = plan.estimate, plan.costs
    alone = settings.reply.tokens * costs.step
    among = alone + settings.reply.tokens * (settings.engine.rows - 1) * costs.row
    advice = [] if plan.fits else [*_advice(settings)]
    if load <= BUSY:  # what other programs slow down is no reason to change settings
        advice += _slow(settings, among)
    return {
        "model": asdict(plan.model) | {"name": settings.model},
        "machine": asdict(plan.machine),
        "work": asdict(work) | {"assumed": assumed},
        "seconds": {stage: round(s, 1) for stage, s in found.seconds.items()},
        "hours": round(found.hours, 3),
        "memory_gb": round(found.memory / 1e9, 2),
        "halvings": plan.halvings,
        "fits": plan.fits,
        "least_gb": round(found.least / 1e9, 2),
        "load": round(load, 1),
        "reply_seconds": [round(alone, 1), round(among, 1)],
        "advice": [*advice],
    }


def todays_work(settings: Settings, chat: "ChatFormat") -> "tuple[Workload, bool]":
    """What a cycle would read today; and whether that is assumed, because there are no votes."""
    from rlhf_core.cycle.cost import work_of
    from rlhf_core.cycle.evidence import choose_evidence
    from rlhf_core.cycle.probing import probes_for
    from rlhf_core.cycle.snapshot import read_snapshot
    from rlhf_core.training.plan import Workload

    probes = len(probes_for(settings.model, settings.cycle.gate))
    if settings.database.is_file():
        with FeedbackStore(settings.database, allow_old_sqlite=settings.allow_old_sqlite) as store:
            evidence = choose_evidence(store, settings.cycle)
            work = work_of(read_snapshot(store, evidence, settings.cycle), chat, probes)
        if work.opinions + work.held_out:
            return work, False
    held_out = ASSUMED_VOTES // 4
    reply = ASSUMED_REPLY * settings.reply.tokens
    votes = ASSUMED_VOTES - held_out
    return Workload(votes, held_out, 0, ASSUMED_PROMPT, reply, probes=probes), True


def _slow(settings: Settings, seconds: float) -> Iterator[str]:
    """What is to be done if replies are cut because they take too long."""
    most = settings.limits.reply_seconds
    if seconds > most:
        yield (
            f"raise limits.reply_seconds from {most:g} to {ceil(seconds)} or more, or lower "
            "reply.tokens or engine.rows: a reply that takes longer is cut, and people would vote "
            "on its beginning"
        )


def _advice(settings: Settings) -> Iterator[str]:
    """What would need less memory and is not set yet."""
    yield "lower reply.tokens or reply.prompt_tokens: memory is planned for the longest replies"
    yield "lower cycle.policy.batch_size: a rollout's replies are decoded together"
    stages = settings.cycle.sft, settings.cycle.reward, settings.cycle.policy
    if not all(stage.gradient_checkpointing for stage in stages):
        yield "set gradient_checkpointing of cycle.sft, cycle.reward and cycle.policy"
    if settings.packing != "nf4":
        yield "use --quantization nf4"
    yield "use a smaller model"
