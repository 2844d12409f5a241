"""The parts of an experiment: kept once they are done, two at a time, resumed after a kill.

A stage's folder is named after everything that its result follows from: its own name and options,
the profile, the seed, and the stages before it. So another profile, or a changed one, never finds
results that are not its own, and a run that is started again goes on where it was killed. A folder
has its name only when the stage is done. Stages run in processes of one thread each. When one
fails, no other begins, the one beside it comes to its end, and then the error is raised.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from multiprocessing.connection import wait as wait_for_end
from pathlib import Path
from queue import Empty
from typing import Any

from rlhf_core.reproduction.profiles import ReproductionProfile

PROCESSES = 2
RESULT, CHECKPOINTS = "result.json", "checkpoints"
EVERY = "all stages"
FORMAT = 7  # raise it when the same settings come to mean something else
Facts = dict[str, Any]
StageReport = Callable[[str, float, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class StageInput:
    """What a stage works with.

    Attributes:
        profile: How much of everything.
        seed: Of everything random.
        folder: Where it writes files beside its result.
        before: The folders of the stages that it needs, by name.
        options: Its own settings.
        report: Called as (share done, metrics).
    """

    profile: ReproductionProfile
    seed: int
    folder: Path
    before: Mapping[str, Path]
    options: Mapping[str, Any]
    report: Callable[[float, dict[str, float]], None]

    @property
    def checkpoints(self) -> Path:
        """Where a training stage keeps its checkpoints; they outlast a kill."""
        return self.folder / CHECKPOINTS

    def facts(self, stage: str) -> Facts:
        """The result of a stage before."""
        return read_result(self.before[stage])


Work = Callable[[StageInput], Facts]


@dataclass(frozen=True, slots=True)
class ExperimentStage:
    """One stage: a function of a module, what it needs, and its options.

    ``line`` names a second line of models, such as ``small-``: its stages' names begin so, and its
    works find what is before them without it.
    """

    name: str
    work: Work
    needs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""


@dataclass(frozen=True, slots=True)
class KeptStages:
    """The stages of one seed in their folders."""

    stages: Mapping[str, ExperimentStage]
    profile: ReproductionProfile
    seed: int
    root: Path

    @classmethod
    def of(
        cls, stages: Sequence[ExperimentStage], profile: ReproductionProfile, seed: int, root: Path
    ) -> "KeptStages":
        """The stages of one seed below `root`."""
        return cls({stage.name: stage for stage in stages}, profile, seed, root)

    def digest(self, name: str) -> str:
        """A hash of all that a stage's result follows from."""
        stage = self.stages[name]
        before = [self.digest(need) for need in stage.needs]
        made_of = [FORMAT, name, dict(stage.options), asdict(self.profile), self.seed, before]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def folder(self, name: str) -> Path:
        """Where a stage's result is once it is done."""
        return self.root / f"seed-{self.seed}" / f"{name}-{self.digest(name)[:12]}"

    def is_done(self, name: str) -> bool:
        """Whether a stage has its result."""
        return self.folder(name).is_dir()

    def facts(self, name: str) -> Facts:
        """The result of a stage that is done."""
        return read_result(self.folder(name))

    def wanted(self, names: Collection[str]) -> set[str]:
        """These stages and all that they need, directly or not."""
        found: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name not in found:
                found.add(name)
                queue += self.stages[name].needs
        return found


def run_stages(seeds: Sequence[KeptStages], names: Collection[str], report: StageReport) -> None:
    """Run what the named stages of every seed need and is not done yet.

    Args:
        seeds: The stages of each seed.
        names: The stages whose results are wanted.
        report: Called with a stage, the share of it that is done, and metrics; and with `EVERY`.

    Raises:
        RLHFError: A stage failed; what was done is kept.
    """
    kept = {one.seed: one for one in seeds}
    graph: TopologicalSorter[tuple[int, str]] = TopologicalSorter()
    for one in seeds:
        for name in sorted(one.wanted(names)):
            graph.add((one.seed, name), *((one.seed, need) for need in one.stages[name].needs))
    every = left = sum(len(one.wanted(names)) for one in seeds)
    graph.prepare()
    # spawned, because torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    running: dict[Future[None], tuple[int, str]] = {}
    ready: deque[tuple[int, str]] = deque()
    failed: BaseException | None = None
    with ProcessPoolExecutor(PROCESSES, context, _begin_worker, (told,)) as workers:
        while running or (graph.is_active() and not failed):
            ready += graph.get_ready()
            while ready and len(running) < PROCESSES and not failed:
                seed, name = ready.popleft()
                if kept[seed].is_done(name):
                    graph.done((seed, name))
                    left -= 1
                    ready += graph.get_ready()
                else:
                    task = _task(kept[seed], name, label(name, seed, len(seeds)))
                    running[workers.submit(_work, *task)] = (seed, name)
            ended = wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done
            _pass_on(told, report)
            for future in ended:
                stage, error = running.pop(future), future.exception()
                if error:
                    failed = failed or error
                else:
                    graph.done(stage)
                    left -= 1
            report(EVERY, 1 - left / every if every else 1.0, {})
    _pass_on(told, report)
    if failed:
        raise failed


def label(name: str, seed: int, seeds: int) -> str:
    """A stage as the progress bar names it."""
    return f"{name} {seed}" if seeds > 1 else name


def write_whole(file: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all, whenever the process is killed."""
    part = file.with_name(f".{file.name}.partial")
    part.write_text(text)
    part.replace(file)


def read_result(folder: Path) -> Facts:
    """What a stage that is done found."""
    found: Facts = json.loads((folder / RESULT).read_text())
    return found


_TOLD: Any = None  # the queue to the parent, in a worker


def _begin_worker(told: Any) -> None:
    """Prepare a worker: one thread, no hub, a way to report, and an end when the parent ends."""
    global _TOLD
    _TOLD = told
    told.cancel_join_thread()  # a worker's end must not wait until somebody reads its reports
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    import torch
    from transformers.utils.logging import disable_progress_bar

    torch.set_num_threads(1)
    disable_progress_bar()  # type: ignore[no-untyped-call]


def _end_with(sentinel: int) -> None:
    """A killed parent cannot stop its workers, so they stop themselves."""
    wait_for_end([sentinel])
    os._exit(1)


def _task(kept: KeptStages, name: str, shown: str) -> tuple[Any, ...]:
    stage = kept.stages[name]
    before = {need.removeprefix(stage.line): kept.folder(need) for need in stage.needs}
    return stage.work, kept.profile, kept.seed, kept.folder(name), before, stage.options, shown


def _work(
    work: Work,
    profile: ReproductionProfile,
    seed: int,
    target: Path,
    before: Mapping[str, Path],
    options: Mapping[str, Any],
    shown: str,
) -> None:
    """Run one stage in a worker, and name its folder when all of it is there."""
    partial_folder = target.with_name(f".{target.name}.partial")
    _leave_checkpoints(partial_folder)
    report = partial(_tell, shown)
    started, worked = time.monotonic(), time.process_time()
    report(0.0, {})
    found = work(StageInput(profile, seed, partial_folder, before, options, report))
    found["seconds"] = round(time.monotonic() - started, 1)
    found["cpu_seconds"] = round(time.process_time() - worked, 1)  # the same on a busy machine
    write_whole(partial_folder / RESULT, json.dumps(found, indent=1))
    shutil.rmtree(partial_folder / CHECKPOINTS, ignore_errors=True)
    partial_folder.rename(target)
    report(1.0, {})


def _leave_checkpoints(folder: Path) -> None:
    """Empty the folder of a stage that was killed, but for what it can go on from."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != CHECKPOINTS:
            shutil.rmtree(entry)
        elif entry.is_file():
            entry.unlink()


def _tell(shown: str, share: float, metrics: dict[str, float]) -> None:
    if _TOLD is not None:
        _TOLD.put((shown, share, dict(metrics)))


def _pass_on(told: Any, report: StageReport) -> None:
    while True:
        try:
            report(*told.get_nowait())
        except Empty:
            return
