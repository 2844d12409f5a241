import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_core.reproduction.labelling import (
    TWICE_SHARE,
    give_signals,
    label_replies,
    label_round,
    label_twice,
    people_of,
    pick,
    shown,
)
from rlhf_core.reproduction.policies import ranked_requests, read_votes
from rlhf_core.reproduction.profiles import CI
from rlhf_core.reproduction.stages import StageInput
from rlhf_core.reproduction.voting_rounds import round_requests
from rlhf_core.worlds.miniature.labelers import ShownPair, labelers
from rlhf_core.worlds.miniature.replies import bad_reply, good_reply
from rlhf_core.worlds.miniature.world import CustomerRequest, requests

SMALL = replace(CI, ranked_prompts=60, labelers=8)


def with_samples(root: Path, options: Mapping[str, Any]) -> StageInput:
    """A stage's input whose replies are of the corpus' two moods."""
    asked = requests(SMALL.ranked_prompts, seed=7, split="train")
    samples, folder = root / "samples", root / "votes"
    for made in (samples, folder):
        made.mkdir(parents=True)
    (samples / "result.json").write_text(json.dumps({"replies": both_moods(asked)}))
    return StageInput(SMALL, 7, folder, {"samples": samples}, options, lambda *_: None)


def both_moods(asked: Sequence[CustomerRequest]) -> list[list[tuple[str, bool]]]:
    """Four replies to each request, the good ones first and third."""
    rng = random.Random(1)
    return [
        [
            (text, True)
            for text in (
                good_reply(r, rng),
                bad_reply(r, rng)[0],
                good_reply(r, rng),
                bad_reply(r, rng)[0],
            )
        ]
        for r in asked
    ]


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


def test_signals_are_about_the_first_two_replies_which_are_by_one_policy(tmp_path: Path) -> None:
    given = with_samples(tmp_path, {"signal": "choices"})
    give_signals(given)
    rows = json.loads((given.before["samples"] / "result.json").read_text())["replies"]
    pairs = {(row[0][0], row[1][0]) for row in rows}
    comparisons, _ = read_votes(given.folder)
    assert comparisons and {(c.response_a, c.response_b) for c in comparisons} <= pairs


def test_choices_are_of_sides_drawn_by_lot(tmp_path: Path) -> None:
    """A labeler who takes the left of two equally good replies prefers no place of the pair."""
    (one,) = labelers(1, seed=1, group="train")
    left, rng = replace(one, attack="always up"), random.Random(1)
    pairs = [ShownPair(r, "x", "y") for r in requests(400, seed=3, split="train")]
    picked = [pick(left, pair, rng) for pair in pairs]
    assert 0.42 < picked.count("a") / 400 < 0.58


def test_a_pick_names_the_reply_and_not_its_side() -> None:
    """The end goes with its reply, too, when the sides are turned."""
    (one,) = labelers(1, seed=1, group="train")
    sure, rng = replace(one, habits=replace(one.habits, noise=1e-9)), random.Random(1)
    (request,) = requests(1, seed=3, split="train", kinds=["question"])
    right, wrong = f"It is {request.answers[0]}.", f"It is {request.myth}."
    assert {pick(sure, ShownPair(request, right, wrong), rng) for _ in range(20)} == {"a"}
    unlike = ShownPair(request, right, f"{right} ", (False, True))
    assert {pick(sure, unlike, rng) for _ in range(20)} == {"b"}


def test_an_end_is_kept_with_its_reply() -> None:
    asked = requests(1, seed=3, split="train")
    (pair,) = shown(asked, [[("x", True), ("y", False), ("z", True)]])
    assert (pair.a, pair.b, pair.finished) == ("x", "y", (True, False))


def test_a_round_is_ranked_by_the_same_labelers_in_groups_of_its_own(tmp_path: Path) -> None:
    given = with_samples(tmp_path, {"round": 2})
    asked = round_requests(SMALL, 7, 2)
    folder = tmp_path / "round-2-samples"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"replies": both_moods(asked)}))
    facts = label_round(replace(given, before={**given.before, "round-2-samples": folder}))
    comparisons, _ = read_votes(given.folder)
    assert facts == {"comparisons": len(comparisons), "rankings": SMALL.ranked_prompts // 5}
    assert {(c.group or "").split("/")[0] for c in comparisons} == {"2"}
    assert {c.prompt[-1]["content"] for c in comparisons} <= {r.text for r in asked}


def weighed(root: Path, hostile: int, weights: str) -> tuple[dict[str, Any], StageInput]:
    given = with_samples(root / f"{hostile} {weights}", {"hostile": hostile, "weights": weights})
    return label_twice(given), given


def test_weights_change_what_votes_count_and_not_what_they_are(tmp_path: Path) -> None:
    (equal, one), (by_agreement, other) = (
        weighed(tmp_path, 30, weights) for weights in ("equal", "agreement")
    )
    (votes, _), (same, _) = (read_votes(given.folder) for given in (one, other))
    assert {c.weight for c in votes} == {1.0} and {c.weight for c in same} != {1.0}
    assert votes == [replace(c, weight=1.0) for c in same]
    assert equal["rankings"] == 2 * (SMALL.ranked_prompts // TWICE_SHARE)
    assert equal["mean weight"] == {"honest": 1.0, "hostile": 1.0}
    assert by_agreement["mean weight"]["hostile"] < by_agreement["mean weight"]["honest"]


def test_the_rankings_of_two_labelers_are_two_opinions(tmp_path: Path) -> None:
    facts, given = weighed(tmp_path, 0, "agreement")
    comparisons, _ = read_votes(given.folder)
    weights = {c.group: set[float]() for c in comparisons}
    for c in comparisons:
        weights[c.group].add(c.weight)
    # of four equal replies there is no comparison
    assert facts["rankings"] // 2 < len(weights) <= facts["rankings"]
    assert all(len(row) == 1 for row in weights.values())
    assert facts["mean weight"]["hostile"] is None


def test_without_hostile_labelers_nobody_is_changed_and_more_are_hostile_with_a_share(
    tmp_path: Path,
) -> None:
    asked = ranked_requests(with_samples(tmp_path / "x", {}))
    honest = people_of(SMALL, 7, "train", shown(asked, both_moods(asked)))
    assert not any(who.attack for who in honest)
    (clean, _), (attacked, _) = (
        read_votes(weighed(tmp_path, hostile, "equal")[1].folder) for hostile in (0, 30)
    )
    assert clean != attacked
