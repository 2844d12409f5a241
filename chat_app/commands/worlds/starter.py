"""Commands about the starter and the models of the miniature world: build them, check it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from chat_app.commands.options import Json, folder_to_write
from chat_app.cycles.status import skipped_sft
from chat_app.errors import ChatAppError, InvalidRequestError

ModelSize = Literal["nano", "micro", "mid"]

starter = typer.Typer(help="The embedded starter model.", no_args_is_help=True)


@starter.command()
def build(
    folder: Annotated[Path, typer.Argument(help="Folder for the model.")],
    size: Annotated[
        ModelSize | None,
        typer.Option(help="A model of the miniature world, instead of the starter."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the corpus and the weights.")] = 0,
) -> None:
    """Build the starter model from its corpus, in the same way as the shipped one.

    With --size, build a model of the miniature world from that world's corpus.
    """
    folder_to_write(folder, "give another")
    from rlhf_core.worlds.miniature import build as miniature
    from rlhf_core.worlds.starter import build as building

    with stage_bar() as bar:

        def progress(share: float, metrics: dict[str, float]) -> None:
            bar("pretraining", share, metrics)

        if size is None:
            steps = steps or building.STEPS
            accuracy = building.build(folder, steps=steps, seed=seed, progress=progress)
        else:
            built = miniature.build(folder, size, steps=steps, seed=seed, progress=progress)
            accuracy = built.cloze_accuracy
    typer.echo(f"built {folder}: cloze accuracy {accuracy:.3f}")


@starter.command()
def check(
    folder: Annotated[Path | None, typer.Argument(help="Default: the shipped model.")] = None,
    as_json: Json = False,
) -> None:
    """Check that a starter model equals the shipped one and has its skills."""
    if folder is not None and not folder.is_dir():
        raise InvalidRequestError(f"there is no folder {folder}; give the one that `build` made")
    from rlhf_core.model.sources import STARTER_MODEL
    from rlhf_core.worlds.starter import check as checking

    findings = checking.check(folder or STARTER_MODEL)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for one in findings:
            mark = "ok  " if one.passed else "FAIL"
            typer.echo(f"{mark}  {one.name}: {one.value} (wanted {one.wanted})")
    bad = [one.name for one in findings if not one.passed]
    if bad:
        raise ChatAppError(f"{len(bad)} checks of the starter model failed: {', '.join(bad)}")


StageBar = Callable[[str, float, dict[str, float]], None]


@contextmanager
def stage_bar(*, hidden: bool = False, keep: bool = True) -> Iterator[StageBar]:
    """A progress bar; call it with (stage, share of the stage that is done, metrics).

    With many stages, ``keep=False`` takes away the lines of those that are done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description:<11}"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(elapsed_when_finished=True),
        # last, so that a narrow terminal cuts these and not the time
        TextColumn("{task.fields[facts]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    console = Console(stderr=True)
    bar = Progress(
        *columns,
        console=console,
        disable=hidden,
        speed_estimate_period=600,  # seconds; an iteration may take minutes
    )
    stages: dict[str, TaskID] = {}

    def report(stage: str, share: float, metrics: dict[str, float]) -> None:
        """Show how far a stage is, and its newest figures."""
        bar.start()  # only now: what is refused before is one line, without a bar
        if stage not in stages:
            stages[stage] = bar.add_task(stage, total=1.0, facts="")
        shown = list(metrics.items())[:3]
        facts = skipped_sft(metrics) or "  ".join(f"{name} {n:.3g}" for name, n in shown)
        bar.update(stages[stage], completed=share)
        if facts:
            bar.update(stages[stage], facts=facts)
        if share >= 1 and not keep:
            bar.remove_task(stages.pop(stage))

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
