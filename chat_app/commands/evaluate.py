"""The command `evaluate`: two adapters compared by the exact judge of a world."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chat_app.commands.adapters import open_store
from chat_app.commands.find_model import require_contract, resolved, settings_of_model
from chat_app.commands.options import (
    Config,
    Data,
    Json,
    Model,
    Profiled,
    Prompts,
    Quantized,
    Tastes,
    WorldName,
    about,
    checkable_world,
)
from chat_app.errors import InvalidRequestError
from chat_app.settings import Settings
from feedback_store.records import BASE_ADAPTER
from rlhf_core.config import GateSettings
from rlhf_core.cycle.probing import probes_for
from rlhf_core.cycle.signing import signing_key

if TYPE_CHECKING:
    from rlhf_core.gate.probes.packs import Probe
    from rlhf_core.worlds.checkable.world import CheckableWorld


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(evaluate)


def evaluate(  # noqa: PLR0913 - one argument for each option
    adapter: Annotated[str | None, typer.Option(help="Default: the served adapter.")] = None,
    against: Annotated[str, typer.Option(help="The adapter to compare with.")] = BASE_ADAPTER,
    requests: Annotated[int, typer.Option(min=20, help="Held-out requests.")] = 600,
    seed: Annotated[int, typer.Option(help="Seed of the requests and the replies.")] = 0,
    world: WorldName = "starter",
    taste: Tastes = None,
    prompts: Prompts = None,
    probes: Annotated[bool, typer.Option("--probes", help="Ask the gate's probes, too.")] = False,
    data: Data = None,
    model: Model = None,
    profile: Profiled = None,
    quantization: Quantized = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compare two adapters on requests that no visitor makes, by the exact judge of a world.

    The starter's world judges the starter alone; the checkable world judges any model.
    """
    options = {"model": model, "profile": profile, "quantization": quantization}
    settings = settings_of_model(config, data=data, **options)
    if world == "starter" and settings.model != "starter":
        raise InvalidRequestError(
            f"model {settings.model!r} has no gold judge; only the starter has one; "
            "give --world checkable"
        )
    judged = checkable_world(world, taste, prompts)
    with open_store(settings) as store:
        names = (adapter or store.serving().adapter, against)
        for name in set(names) - {BASE_ADAPTER}:
            store.adapter(name)  # an unknown one is told before anything is loaded
        key = signing_key(store, settings.data)
    settings = resolved(settings)
    require_contract(settings)
    gate = settings.cycle.gate
    pack = probes_for(settings.model, gate) if probes else ()
    base, sides = _attached(settings, names, key)
    asked = {"candidate": sides[0], "served": sides[1], "n": requests, "seed": seed}
    if judged is None:
        found, lines = _by_the_starters_judge(base, asked)
    else:
        found, lines = _by_tastes(base, judged, asked)
    if probes:
        probed, said = _by_probes(base, pack, gate, sides, seed)
        found, lines = found | probed, lines + said
    facts = {"adapter": names[0], "against": against, **found}
    text = "\n".join([f"{names[0]} against {against}", *lines])
    typer.echo(json.dumps(facts) if as_json else text)


def _by_the_starters_judge(base: Any, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    from rlhf_core.worlds.starter.measure import compare

    found = compare(base, **options)
    was, now = asdict(found.served), asdict(found.candidate)
    lines = [f"{found.win_rate:7.3f}  win rate ({found.low:.3f} to {found.high:.3f})"]
    lines += [f"{now[name]:7.3f}  {name} (was {was[name]:.3f})" for name in now]
    return asdict(found), lines


def _by_tastes(
    base: Any, world: "CheckableWorld", options: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    from rlhf_core.worlds.checkable.measure import compare_satisfaction

    found = compare_satisfaction(base, world, **options)
    return {"world": world.facts(), **asdict(found)}, [about(world), *found.lines()]


def _by_probes(
    base: Any, pack: Sequence["Probe"], gate: GateSettings, sides: list[str | None], seed: int
) -> tuple[dict[str, Any], list[str]]:
    """What the gate would say of the probes, if the first adapter were a candidate."""
    from rlhf_core.gate.checks import check_probes
    from rlhf_core.gate.probes.asking import ask_probes

    counts = ask_probes(base, pack, candidate=sides[0], served=sides[1], seed=seed)
    checks = check_probes(counts, gate, liked=False)
    lines = [f"{'passed' if c.passed else 'FAILED':>7}  {c.text}" for c in checks]
    return {"probes": {kind: asdict(found) for kind, found in counts.items()}}, lines


def _attached(
    settings: Settings, names: tuple[str, str], key: bytes
) -> tuple[Any, list[str | None]]:
    """The base with the adapters that are not the base, and what the base calls each of them."""
    import torch

    from rlhf_core.model.loading import load_base

    torch.set_num_threads(settings.engine.threads)  # as in serving; more would make it slower
    base = load_base(
        settings.model,
        quantization=settings.packing,
        reply=settings.reply,
        cache=settings.models,
    )
    for name in set(names) - {BASE_ADAPTER}:
        base.attach(name, settings.adapters / name, key=key)
    return base, [None if name == BASE_ADAPTER else name for name in names]
