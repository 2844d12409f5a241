"""Options that several commands share; None means not given, then the settings decide.

Besides, what is said of wrong usage, and the check of a folder that a command writes into.
"""

import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

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


def folder_to_write(folder: Path, otherwise: str) -> None:
    """Make a folder, so that one that cannot be written is refused before the work begins.

    Args:
        folder: Where a command writes; it may be there.
        otherwise: What to do if it cannot, for the message.

    Raises:
        InvalidRequestError: It is no folder, or nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (FileExistsError, NotADirectoryError) as exc:
        raise InvalidRequestError(f"{folder} is not a folder; {otherwise}") from exc
    except OSError as exc:
        raise InvalidRequestError(f"cannot write {folder} ({exc.strerror}); {otherwise}") from exc


def usage_fault(exc: TyperException) -> str:
    """What is wrong with how a command was called; of a wrong value also what may be given."""
    wrong, param = exc.__cause__, getattr(exc, "param", None)
    if not isinstance(wrong, ValidationError) or param is None:
        return exc.format_message().rstrip(".") or "a command is missing"
    found, name = wrong.errors()[0], max(param.opts, key=len)
    if found["type"] == "value_error":
        return f"{name}: {found['ctx']['error']}".rstrip(".")
    kinds = {"int_parsing": "a whole number", "float_parsing": "a number"}
    low, high = getattr(param, "min", None), getattr(param, "max", None)
    limits = f"{low} to {high}" if high is not None else None if low is None else f"{low} or more"
    wanted = ", ".join(filter(None, (kinds.get(found["type"]), limits))) or found["msg"]
    return f"{name} cannot be {found['input']!r}; give {wanted}"


def join_help_lines(app: typer.Typer) -> None:
    """Join the lines of each paragraph of the commands' help, whose breaks Typer would keep."""
    for command in app.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(one.split()) for one in paragraphs)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            join_help_lines(group.typer_instance)


def called(app: typer.Typer, words: Sequence[str]) -> str:
    """The command that these words call, as far as there is one, such as `feedback-chat keys`."""
    names, found = ["feedback-chat"], typer.main.get_command(app)
    for word in words:
        if (inner := getattr(found, "commands", {}).get(word)) is None:
            break
        found = inner
        names.append(word)
    return " ".join(names)


def about(world: "CheckableWorld") -> str:
    """What is asked and wished in a world, and what cannot be checked, in a line each."""
    wished = ", ".join(taste.text for taste in world.tastes) or "what the prompts ask for"
    lines = [f"{len(world.prompts)} prompts, {len(world.kept)} of them kept; tastes: {wished}"]
    lines += [f"not checked, in {n} prompts: {name}" for name, n in world.unchecked.items()]
    return "\n".join(lines)
