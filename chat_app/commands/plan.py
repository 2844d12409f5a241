"""`plan` and `cycle --dry-run`: what would be used for a model, what a cycle would do and cost.

They load no weights: they read the model's configuration and time a few blocks of its kind. A dry
run works on a copy of the database, so it writes nothing into the data directory.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel

from chat_app.commands.adapters import open_store
from chat_app.commands.find_model import resolved, settings_of_model
from chat_app.commands.options import Config, Data, Json, Model, Profiled, Quantized
from chat_app.errors import RefusedError
from chat_app.profile import model_path
from chat_app.settings import Settings
from feedback_store.store import FeedbackStore

if TYPE_CHECKING:
    from rlhf_core.cycle.dry_run import DryRun
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


def dry_run(settings: Settings, *, as_json: bool) -> None:
    """Say what a cycle would do now; nothing is written.

    Raises:
        RefusedError: The cycle would not run.
    """
    from rlhf_core.cycle.cost import WORTH_MEASURING, work_of
    from rlhf_core.cycle.dry_run import dry_run
    from rlhf_core.cycle.probing import probes_for
    from rlhf_core.cycle.resume import config_of

    chat, cycles = _chat(settings), settings.data / "cycles"
    probes = len(probes_for(settings.model, settings.cycle.gate))
    with _copied(settings) as copy:
        config = config_of(
            settings.cycle,
            settings.reply,
            model=settings.model,
            quantization=settings.packing,
            anchor=copy.anchor(),
        )
        found = dry_run(copy, cycles, settings.cycle, chat, config)
    work = work_of(found.snapshot, chat, probes)
    smaller = settings.cycle.for_evidence(found.snapshot.amount.effective)
    costs = cost(
        settings.model_copy(update={"cycle": smaller}),
        work if work.opinions + work.held_out else None,
    )
    refusal = found.refusal
    if refusal is None and not costs["fits"] and costs["model"]["parameters"] >= WORTH_MEASURING:
        refusal = f"it does not fit into memory: {costs['least_gb']:.1f} GB or more are needed"
    faults = _faults_of_servers(settings)
    if refusal is None and faults and all(faults.values()):
        refusal = f"no server of vLLM can write its replies: {'; '.join(faults.values())}"
    facts = _facts(found, settings) | {"refusal": refusal, "vllm": faults}
    if as_json:
        typer.echo(json.dumps(facts | {"plan": costs}))
    else:
        _show_dry_run(facts)
        _show_cost(costs)
    if refusal is not None:
        raise RefusedError(f"a cycle would be refused: {refusal}")


def _faults_of_servers(settings: Settings) -> dict[str, str]:
    """By address, why a server of vLLM could not decode a cycle's replies; empty if it could."""
    servers = settings.servers
    if servers is None or settings.cycle.policy.generation == "local":
        return {}
    return servers.faults(window=settings.reply.window)


@contextmanager
def _copied(settings: Settings) -> Iterator[FeedbackStore]:
    """A copy of the store as it is now, in a directory that only this user reads."""
    with tempfile.TemporaryDirectory(prefix="feedback-chat-") as folder:
        copy = Path(folder) / "feedback.db"
        with open_store(settings) as store:
            store.backup(copy)
        with FeedbackStore(copy, allow_old_sqlite=settings.allow_old_sqlite) as store:
            yield store


def _facts(found: "DryRun", settings: Settings) -> dict[str, Any]:
    """What a dry run found, as plain values."""
    snapshot, needed = found.snapshot, settings.cycle
    return {
        "resumes": found.resumes,
        "evidence": asdict(found.supply)
        | {
            "thumbs": len(snapshot.train_thumbs),
            "demonstrations": len(snapshot.demonstrations),
            "not_drawn": found.not_drawn,
        },
        "needed": {
            "effective": needed.min_comparisons,
            "full": needed.full_comparisons,
            "new": needed.min_new_comparisons,
            "held_out_prompts": needed.gate.min_prompts,
            "demonstrations": needed.sft.min_demonstrations,
        },
        "split": {
            "train": len(snapshot.train),
            "held_out": len(snapshot.held_out),
            "held_out_raters": len(snapshot.held_out_rater_votes),
        },
        "iterations": {"planned": found.iterations, "most": needed.policy.iterations},
        "fitted": found.fitted,
        "left_out": list(found.left_out),
    }


def _show_dry_run(facts: dict[str, Any]) -> None:
    have, needed, split = facts["evidence"], facts["needed"], facts["split"]
    how = "starts anew" if facts["resumes"] is None else f"goes on with cycle {facts['resumes']}"
    typer.echo(f"dry run    {'would be refused' if facts['refusal'] else how}; nothing is written")
    typer.echo(
        f"evidence   {have['decided']} decided comparisons, {have['ties']} ties, {have['thumbs']} "
        f"thumbs alone: they count as {have['effective']:.1f} comparisons ({needed['effective']} "
        f"needed, {needed['full']} for PPO's full step); {have['new']} new ({needed['new']} "
        f"needed), {have['demonstrations']} demonstrations ({needed['demonstrations']} for SFT)"
    )
    step = facts["iterations"]
    if step["planned"] < step["most"]:
        typer.echo(f"  - a smaller step: {step['planned']} of {step['most']} iterations of PPO")
    typer.echo(
        f"split      {split['train']} to train on, {split['held_out']} held out, on "
        f"{have['held_out_prompts']} prompts ({needed['held_out_prompts']} needed), "
        f"{split['held_out_raters']} of held-out raters"
    )
    if have["not_drawn"]:
        typer.echo(f"  - not drawn: {have['not_drawn']} comparisons, by the limits of cycle.data")
    cut = {name.removeprefix("data/"): n for name, n in facts["fitted"].items() if n}
    if cut:
        told = ", ".join(f"{n:.0f} {name.replace('_', ' ')}" for name, n in cut.items())
        typer.echo(f"  - by the contract of lengths and the chat template: {told}")
    for line in facts["left_out"]:
        typer.echo(f"  - {line}")
    for url, fault in facts["vllm"].items():
        typer.echo(f"replies    by vLLM at {url}: {fault or 'ready'}")


def _show(facts: dict[str, Any]) -> None:
    width = max(map(len, facts["settings"]))
    for name, (value, whose) in facts["settings"].items():
        typer.echo(f"{name:<{width}} {value!s:<12} {whose}")
    _show_cost(facts)


def _show_cost(facts: dict[str, Any]) -> None:
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
    typer.echo(
        f"one reply  up to {alone:.0f} s alone, {among:.0f} s when {facts['rows']} are written at "
        "once"
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


def _chat(settings: Settings) -> "ChatFormat":
    """The model's chat template and contract of lengths, without its weights."""
    from transformers import AutoTokenizer

    from rlhf_core.model.chat_format import ChatFormat

    return ChatFormat(AutoTokenizer.from_pretrained(model_path(settings)), settings.reply)


def cost(settings: Settings, work: "Workload | None" = None) -> dict[str, Any]:
    """The planned cost of one cycle, on today's votes if no work is given; it measures seconds."""
    from rlhf_core.cycle.cost import plan_work

    load = os.getloadavg()[0]  # before the measurements, which add to it
    work, assumed = todays_work(settings, _chat(settings)) if work is None else (work, False)
    path = model_path(settings)
    plan = plan_work(path, work, settings.cycle, settings.reply, settings.packing)
    found, costs = plan.estimate, plan.costs
    alone = settings.reply.tokens * costs.step
    among = alone + settings.reply.tokens * (settings.engine.rows - 1) * costs.row
    advice = [] if plan.fits else [*_advice(settings)]
    if load <= BUSY:  # what other programs slow down is no reason to change settings
        advice += _slow(settings, among)
    if settings.cycle.policy.generation == "vllm":
        advice.append("vLLM decodes the replies; hours and memory are as if this machine did")
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
        "rows": settings.engine.rows,
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
