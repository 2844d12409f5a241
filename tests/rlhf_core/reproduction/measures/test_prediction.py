"""Claims 9 and 13 on reward models whose probabilities are written by hand."""

from pathlib import Path
from typing import Any

import pytest

from rlhf_core.reproduction.claims import Found
from rlhf_core.reproduction.labelling import FOLDS, SIGNALS
from rlhf_core.reproduction.measures.prediction import other_labelers, signals
from rlhf_core.reproduction.policies import paired_requests
from tests.rlhf_core.reproduction.measures.written import SEED, SMALL, bad, good, samples, written

ASKED = paired_requests(SMALL, SEED)
# the good reply is first in every second pair
PAIRS = [[(good(r), True), (bad(r), True)][:: 1 if i % 2 else -1] for i, r in enumerate(ASKED)]


def knows(sure: float) -> list[float]:
    """How probable the first reply is to one who knows the good ones."""
    return [sure if i % 2 else 1 - sure for i in range(len(ASKED))]


def predicted(root: Path, sure: float, last: float | None = None) -> Found:
    """Folds whose reward models say so; the last fold's may say something else."""
    stages: dict[str, Any] = {"samples": samples(), "pairs": {"pairs": PAIRS}}
    for fold in range(FOLDS):
        said = last if last is not None and fold == FOLDS - 1 else sure
        stages[f"fold-{fold}-reward"] = {"probabilities": knows(said)}
    return other_labelers(written(root, stages))


def test_who_knows_the_good_replies_predicts_votes_and_who_is_wrong_does_not(
    tmp_path: Path,
) -> None:
    right, wrong = predicted(tmp_path / "r", 0.9).figures, predicted(tmp_path / "w", 0.1).figures
    for group in ("in the group", "outside"):
        accuracy = right[f"accuracy {group}"].value
        assert accuracy > 0.65
        assert wrong[f"accuracy {group}"].value == pytest.approx(1 - accuracy)
    ceiling = right["ceiling"].value
    assert 0.5 < ceiling < 1
    assert right["below the ceiling"].value == pytest.approx(
        ceiling - right["accuracy in the group"].value
    )
    assert wrong["below the ceiling"].value > 0.02  # the bar


def test_the_drop_is_from_the_group_to_those_who_were_left_out(tmp_path: Path) -> None:
    found = predicted(tmp_path, 0.9, last=0.1).figures
    inside, outside = (found[f"accuracy {g}"].value for g in ("in the group", "outside"))
    assert found["drop"].value == pytest.approx(inside - outside)
    # every fold's group is four fifths of the people, so a bad fold costs both the same
    assert abs(found["drop"].value) < 0.1


def test_calibration_error_is_how_far_probabilities_are_from_votes(tmp_path: Path) -> None:
    sure = predicted(tmp_path / "s", 1.0).figures
    accuracy = sure["accuracy in the group"].value
    assert sure["calibration error"].value == pytest.approx(1 - accuracy, abs=0.06)


def test_signals_are_compared_by_how_many_pairs_they_put_right(tmp_path: Path) -> None:
    stages: dict[str, Any] = {"samples": samples(), "pairs": {"pairs": PAIRS}}
    for signal, sure in zip(SIGNALS, (0.9, 0.1, 0.9), strict=True):
        stages[f"{signal}-reward"] = {"probabilities": knows(sure)}
        stages[f"{signal}-votes"] = {"events": 60, "comparisons": 40}
    found = signals(written(tmp_path, stages))
    choices, thumbs = (found.figures[f"right by gold, {s}"].value for s in SIGNALS[:2])
    assert choices > 0.9 and thumbs == pytest.approx(1 - choices)
    assert found.remarks[0] == "events 60, comparisons 40"
    assert "thumbs" not in found.remarks[-1]
