"""Works of stages for tests; workers import them by this module's name."""

from pathlib import Path

from rlhf_core.errors import NotEnoughDataError
from rlhf_core.reproduction.stages import Facts, StageInput


def count(given: StageInput) -> Facts:
    """The sum of what stages before found, and one; notes in a file that it ran."""
    with Path(given.options["log"]).open("a") as log:
        log.write(f"{given.options['name']}\n")
    return {"number": 1 + sum(given.facts(name)["number"] for name in given.before)}


def fail(given: StageInput) -> Facts:
    """A stage that cannot be done."""
    raise NotEnoughDataError("there are 0 replies; sample some")


def talk(given: StageInput) -> Facts:
    """Reports more than fits into a pipe, after a stage beside it has failed."""
    for _ in range(given.options["reports"]):
        given.report(0.5, {"a metric with a long name": 1.0})
    return {"number": 0}


def checkpointed(given: StageInput) -> Facts:
    """Keeps a checkpoint; fails the first time."""
    given.checkpoints.mkdir(exist_ok=True)
    mark = given.checkpoints / "mark"
    if mark.exists():
        assert not (given.folder / "half").exists()  # what was half done is gone
        return {"resumed": True}
    mark.touch()
    (given.folder / "half").mkdir()
    raise NotEnoughDataError("the first time")
