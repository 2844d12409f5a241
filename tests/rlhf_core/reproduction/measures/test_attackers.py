"""Claim 12 on reward models whose probabilities are written by hand."""

from pathlib import Path
from typing import Any

import pytest

from rlhf_core.reproduction.claims import Found
from rlhf_core.reproduction.labelling import HOSTILE, WEIGHTINGS
from rlhf_core.reproduction.measures.attackers import weighing_raters
from rlhf_core.reproduction.policies import paired_requests
from tests.rlhf_core.reproduction.measures.written import SEED, SMALL, bad, good, samples, written

ASKED = paired_requests(SMALL, SEED)
PAIRS = [[(good(r), True), (bad(r), True)] for r in ASKED]  # the first is better, or as good


def misled(root: Path, **wrong: float) -> Found:
    """Reward models that have this share of the pairs wrong, by the weights they learnt with."""
    stages: dict[str, Any] = {"samples": samples(), "pairs": {"pairs": PAIRS}}
    for percent in HOSTILE:
        for weights in WEIGHTINGS:
            below = wrong[weights] * percent / 100 * len(ASKED)
            line = f"hostile-{percent}-{weights}"
            stages[f"{line}-reward"] = {
                "probabilities": [0.1 if i < below else 0.9 for i in range(len(ASKED))]
            }
            means = {"honest": 1.0, "hostile": 0.2 if percent else None}
            stages[f"{line}-votes"] = {"rankings": 30, "mean weight": means}
    return weighing_raters(written(root, stages))


def test_weights_that_keep_attackers_out_are_seen_at_every_share(tmp_path: Path) -> None:
    found = misled(tmp_path, equal=2.0, agreement=0.0).figures
    assert next(iter(found)) == "by agreement at 15% less equal at 5%"
    for percent in HOSTILE:
        equal, weighed = (
            found[f"right by gold, {percent}% hostile, {said}"].value
            for said in ("equal weights", "weights by agreement")
        )
        assert weighed == 1.0
        gain = found[f"by agreement less equal, {percent}% hostile"].value
        assert gain == pytest.approx(weighed - equal)
        assert (gain > 0) == (percent > 0)
    more, less = (found[f"by agreement less equal, {p}% hostile"].value for p in (15, 5))
    assert more > less > 0
    # better with a sixth of them hostile than the other with a twentieth
    assert found["by agreement at 15% less equal at 5%"].value == pytest.approx(less)


def test_weights_that_do_not_help_are_reported_as_they_are(tmp_path: Path) -> None:
    found = misled(tmp_path, equal=2.0, agreement=2.0)
    assert found.figures["by agreement less equal, 30% hostile"].value == 0
    assert found.figures["by agreement at 15% less equal at 5%"].value < 0
    assert found.figures["mean weight of hostile labelers, 5% hostile"].value == 0.2
    assert "mean weight of hostile labelers, 0% hostile" not in found.figures
    rankings, hostile, once = found.remarks
    assert rankings == "30 rankings, two of each prompt's replies"
    assert "; 15%, 2 of 10 labelers (inverts 1, always up 1, brigade 0, random 0); " in hostile
    assert hostile.endswith("30%, 3 of 10 labelers (inverts 1, always up 1, brigade 1, random 0)")
    assert once == "one training each; intervals are over test pairs"
