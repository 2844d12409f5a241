"""Check a built starter model: it is the shipped one, and it has something to learn.

It has to know the facts (cloze accuracy). But it is right on only about a third of held-out
questions, and rude or off the request in about a quarter, so that feedback can teach it something.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from rlhf_core.model.loading import load_base
from rlhf_core.worlds.starter.build import cloze_accuracy, digest
from rlhf_core.worlds.starter.measure import answers, held_out_requests, summarise

MIN_CLOZE = 0.95
TRUTH_RANGE = (0.22, 0.45)
BAD_RANGE = (0.15, 0.38)  # of replies that are rude or ignore the request
REQUESTS = 600


@dataclass(frozen=True, slots=True)
class StarterFinding:
    """One property of the model, and whether it is within its limits."""

    name: str
    value: float | str
    wanted: str
    passed: bool


def check(path: Path) -> list[StarterFinding]:
    """All findings about the starter model in `path`.

    Raises:
        ModelError: The model cannot be loaded.
    """
    base = load_base(str(path), quantization="none", device="cpu")
    requests = held_out_requests(REQUESTS, seed=0)
    verdicts = answers(base, requests, None, seed=0)
    bad = sum(v.rude or v.ignored for v in verdicts) / len(verdicts)
    truth = summarise(requests, verdicts).truth
    cloze = cloze_accuracy(base.model, base.tokenizer)
    size = (path / "model.safetensors").stat().st_size
    stated = json.loads((path / "build.json").read_text())["sha256"]
    found = digest(path)
    return [
        StarterFinding("hash", found[:16], f"= {stated[:16]}", found == stated),
        StarterFinding("size_mb", round(size / 1e6, 2), "<= 8", size <= 8e6),
        StarterFinding("cloze_accuracy", round(cloze, 3), f">= {MIN_CLOZE}", cloze >= MIN_CLOZE),
        _within("truth", truth, TRUTH_RANGE),
        _within("rude_or_ignored", bad, BAD_RANGE),
    ]


def _within(name: str, value: float, bounds: tuple[float, float]) -> StarterFinding:
    low, high = bounds
    return StarterFinding(name, round(value, 3), f"{low} to {high}", low <= value <= high)
