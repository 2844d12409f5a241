"""Options that several commands share; None means not given, then the settings decide."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chat_app.errors import InvalidRequestError
from chat_app.settings import EngineKind, ProfileName, Quantization
from rlhf_core.errors import InvalidInputError

if TYPE_CHECKING:
    from rlhf_core.worlds.checkable.world import CheckableWorld

Data = Annotated[Path | None, typer.Option("--data", help="Data directory (default: data).")]
Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file (default: config.toml in the data).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port (default: 7860; 0: any free port).")
]
Model = Annotated[
    str | None,
    typer.Option(help="`starter`, `smollm2`, a GGUF file, a directory (model, adapter) or hub id."),
]
Profiled = Annotated[
    ProfileName | None,
    typer.Option("--profile", help="Where values come from that nobody set (default: auto)."),
]
Quantized = Annotated[
    Quantization | None, typer.Option("--quantization", help="Weights of the base in memory.")
]
Engine = Annotated[
    EngineKind | None, typer.Option("--engine", help="Who decodes replies (default: local).")
]
VllmUrl = Annotated[
    str | None,
    typer.Option(help="Addresses of vLLM's servers for `--engine vllm`, commas between them."),
]
WorldName = Annotated[
    Literal["starter", "checkable"], typer.Option(help="Where requests and tastes come from.")
]
Tastes = Annotated[
    list[str] | None,
    typer.Option("--taste", help="Checkable: such as `at-most-words:20`; several may be given."),
]
Prompts = Annotated[
    Path | None,
    typer.Option(help="Checkable: a file of prompts (IFEval, MT-bench, JSON, or one a line)."),
]


def checkable_world(
    world: str, tastes: list[str] | None, prompts: Path | None
) -> "CheckableWorld | None":
    """The checkable world of these options; None if another one is named.

    Raises:
        InvalidRequestError: A taste is unknown, the file is not one of prompts, or the named world
            has neither.
    """
    if world != "checkable":
        if tastes or prompts:
            raise InvalidRequestError(
                "--taste and --prompts are of the checkable world; give --world checkable, too"
            )
        return None
    from rlhf_core.worlds.checkable.world import CheckableWorld

    try:
        return CheckableWorld.of(tastes or (), prompts)
    except InvalidInputError as exc:
        raise InvalidRequestError(str(exc)) from exc


def about(world: "CheckableWorld") -> str:
    """What is asked and wished in a world, and what cannot be checked, in a line each."""
    wished = ", ".join(taste.text for taste in world.tastes) or "what the prompts ask for"
    lines = [f"{len(world.prompts)} prompts, {len(world.kept)} of them kept; tastes: {wished}"]
    lines += [f"not checked, in {n} prompts: {name}" for name, n in world.unchecked.items()]
    return "\n".join(lines)
