from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_core.errors import NotEnoughDataError
from rlhf_core.reproduction.profiles import CI, ReproductionProfile
from rlhf_core.reproduction.stages import ExperimentStage, KeptStages, run_stages, write_whole
from tests.rlhf_core.reproduction import works


def diamond(log: Path) -> list[ExperimentStage]:
    """One stage, two that need it, and one that needs both."""
    needs = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "other": ()}
    return [
        ExperimentStage(name, works.count, before, {"log": str(log), "name": name})
        for name, before in needs.items()
    ]


def run(stages: list[ExperimentStage], root: Path, wanted: str, *, seed: int = 1) -> KeptStages:
    kept = KeptStages.of(stages, CI, seed, root)
    run_stages([kept], [wanted], lambda *_: None)
    return kept


def test_a_stage_runs_after_those_that_it_needs_and_only_they_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    kept = run(diamond(log), tmp_path, "d")
    assert kept.facts("d")["number"] == 5  # 1 + b and c, 2 each
    ran = log.read_text().split()
    assert sorted(ran) == ["a", "b", "c", "d"] and ran[0] == "a" and ran[-1] == "d"
    run(diamond(log), tmp_path, "d")
    assert log.read_text().split() == ran  # all was there


def test_a_stage_that_fails_raises_its_error_and_loses_nothing(tmp_path: Path) -> None:
    stages = [*diamond(tmp_path / "log"), ExperimentStage("broken", works.fail, ("a",))]
    with pytest.raises(NotEnoughDataError, match="there are 0 replies"):
        run(stages, tmp_path, "broken")
    kept = KeptStages.of(stages, CI, 1, tmp_path)
    assert kept.is_done("a") and not kept.is_done("broken")


@pytest.mark.timeout(120)
def test_an_error_is_raised_however_much_the_stage_beside_it_has_to_say(tmp_path: Path) -> None:
    stages = [
        ExperimentStage("broken", works.fail),
        ExperimentStage("long", works.talk, (), {"reports": 5_000}),
        *(ExperimentStage(f"next-{k}", works.talk, (), {"reports": 1}) for k in range(4)),
    ]
    kept = KeptStages.of(stages, CI, 1, tmp_path)
    with pytest.raises(NotEnoughDataError, match="there are 0 replies"):
        run_stages([kept], [stage.name for stage in stages], lambda *_: None)
    assert kept.is_done("long")  # what was running came to its end
    assert not kept.is_done("next-3")  # and nothing more was begun


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "started.json"
    write_whole(file, "first")
    write_whole(file, "second")
    assert file.read_text() == "second" and list(tmp_path.iterdir()) == [file]


def test_a_stage_that_was_broken_off_begins_with_its_checkpoints_alone(tmp_path: Path) -> None:
    stages = [ExperimentStage("long", works.checkpointed)]
    with pytest.raises(NotEnoughDataError):
        run(stages, tmp_path, "long")
    assert run(stages, tmp_path, "long").facts("long")["resumed"]


@pytest.mark.parametrize(
    "profile",
    [replace(CI, iterations=1), replace(CI, steps=3), replace(CI, name="cpu")],
)
def test_another_profile_finds_no_results(profile: ReproductionProfile, tmp_path: Path) -> None:
    stages = diamond(tmp_path / "log")
    usual, other = (KeptStages.of(stages, p, 1, tmp_path) for p in (CI, profile))
    assert usual.folder("d") != other.folder("d")


def test_seeds_and_options_have_results_of_their_own(tmp_path: Path) -> None:
    folders = {
        KeptStages.of(diamond(tmp_path / log), CI, seed, tmp_path).folder("d")
        for log in ("x", "y")
        for seed in (1, 2)
    }
    assert len(folders) == 4
