import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_core.reproduction.labelling import give_signals, label_replies
from rlhf_core.reproduction.policies import read_votes
from rlhf_core.reproduction.profiles import CI
from rlhf_core.reproduction.stages import StageInput
from rlhf_core.worlds.miniature.replies import bad_reply, good_reply
from rlhf_core.worlds.miniature.world import requests

SMALL = replace(CI, ranked_prompts=60, labelers=8)


def with_samples(root: Path, options: Mapping[str, Any]) -> StageInput:
    """A stage's input whose replies are of the corpus' two moods."""
    rng = random.Random(1)
    asked = requests(SMALL.ranked_prompts, seed=7, split="train")
    rows = [
        [good_reply(r, rng), bad_reply(r, rng)[0], good_reply(r, rng), bad_reply(r, rng)[0]]
        for r in asked
    ]
    samples, folder = root / "samples", root / "votes"
    for made in (samples, folder):
        made.mkdir(parents=True)
    (samples / "result.json").write_text(json.dumps({"replies": rows}))
    return StageInput(SMALL, 7, folder, {"samples": samples}, options, lambda *_: None)


def test_all_pairs_of_a_ranking_are_one_opinion_of_one_labeler(tmp_path: Path) -> None:
    given = with_samples(tmp_path, {})
    facts = label_replies(given)
    comparisons, thumbs = read_votes(given.folder)
    assert facts["comparisons"] == len(comparisons) and not thumbs
    sizes = Counter(c.group for c in comparisons)
    assert len(sizes) <= 60 and set(sizes.values()) <= {1, 3, 6}  # of 2, 3 or 4 different replies


def test_the_same_labels_come_each_time(tmp_path: Path) -> None:
    first, second = (with_samples(tmp_path / name, {}) for name in ("x", "y"))
    label_replies(first)
    label_replies(second)
    assert read_votes(first.folder) == read_votes(second.folder)


def test_a_left_out_fold_changes_who_votes(tmp_path: Path) -> None:
    every, fewer = with_samples(tmp_path / "x", {}), with_samples(tmp_path / "y", {"left_out": 0})
    label_replies(every)
    label_replies(fewer)
    assert read_votes(every.folder) != read_votes(fewer.folder)


def test_kinds_of_votes_are_compared_at_the_same_number_of_events(tmp_path: Path) -> None:
    found = {}
    for signal in ("choices", "thumbs", "both"):
        given = with_samples(tmp_path / signal, {"signal": signal})
        found[signal] = give_signals(given)
        comparisons, thumbs = read_votes(given.folder)
        assert (len(comparisons), len(thumbs)) == (
            found[signal]["comparisons"],
            found[signal]["thumbs"],
        )
        if signal == "thumbs":
            assert not any(c.could_tie for c in comparisons)
    events = [facts["events"] for facts in found.values()]
    assert max(events) - min(events) <= 8  # prompts with two equal replies, and thumbs not given
