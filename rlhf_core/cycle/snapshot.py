"""The evidence of one cycle: what the store knows, as the plain records that training takes."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from feedback_store import (
    FeedbackStore,
    StoredComparison,
    StoredUnpaired,
    pair_across_raters,
)
from rlhf_core.config import CycleSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.gate.held_out_raters import are_enough
from rlhf_core.model.base_model import Base
from rlhf_core.model.chat_format import fit_prompt
from rlhf_core.records import Comparison, Demonstration, Prompt, Unpaired


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The evidence of one cycle, fixed at its start."""

    ids: tuple[str, ...]  # of the comparisons that the cycle will use
    other_ids: tuple[str, ...]  # of all else that it read: thumbs, demonstrations, held-out raters
    train: tuple[Comparison, ...]
    held_out: tuple[Comparison, ...]
    train_votes: tuple[Comparison, ...]  # without edits: what raters said of two given replies
    held_out_votes: tuple[Comparison, ...]
    held_out_rater_votes: tuple[Comparison, ...]  # decided ones; none if they are not enough
    held_out_raters: tuple[str, ...]  # who cast each, by number; also where they are not enough
    train_thumbs: tuple[Unpaired, ...]  # without an opposite
    held_out_thumbs: tuple[Unpaired, ...]
    demonstrations: tuple[Demonstration, ...]
    prompts: tuple[Prompt, ...]  # training prompts, each once
    older_prompts: tuple[Prompt, ...]  # those of them that only earlier cycles' votes are about
    held_out_prompts: tuple[Prompt, ...]
    held_out_rater_prompts: tuple[Prompt, ...]  # what held-out raters asked, and no training vote


def take_snapshot(store: FeedbackStore, settings: CycleSettings) -> Snapshot:
    """Derive comparisons from all events, weigh their raters, and fix what this cycle will use.

    Raises:
        NotEnoughDataError: Too few usable comparisons, or none that is new.
    """
    store.assess_raters(by="cycle")
    rows = store.comparisons()
    new = {c.id for c in store.comparisons(unused=True)}
    train, held_out, by_held_out_raters = (
        [c for c in rows if c.split == split] for split in ("train", "held_out", "held_out_raters")
    )
    _require_evidence(rows, len(new), held_out, settings)

    written, thumbs = store.demonstrations(split="train"), store.unpaired()
    demonstrations = tuple(Demonstration(d.prompt, d.content) for d in written)
    train_pairs, train_alone = pair_across_raters([t for t in thumbs if t.split == "train"])
    test_pairs, test_alone = pair_across_raters([t for t in thumbs if t.split == "held_out"])
    prompts = unique([*(c.prompt for c in train), *(d.prompt for d in demonstrations)])

    raters: defaultdict[str, str] = defaultdict(lambda: str(len(raters)))  # a number for each name
    tests = [c for c in by_held_out_raters if c.label != "tie" and c.source != "edit"]
    cast_by = tuple(raters[c.rater_id] for c in tests)
    if not are_enough(cast_by):  # then nothing is measured on them, and none is noted as used
        tests = []
    return Snapshot(
        ids=tuple(c.id for c in (*train, *held_out, *tests)),
        other_ids=(
            *(d.id for d in written),
            *(thumb.id for thumb in thumbs),
            *(c.id for c in by_held_out_raters),
        ),
        train=_plain([*train, *train_pairs], raters),
        held_out=_plain([*held_out, *test_pairs], raters),
        train_votes=_plain([c for c in train if c.source != "edit"], raters),
        held_out_votes=_plain([c for c in held_out if c.source != "edit"], raters),
        held_out_rater_votes=_plain(tests, raters),
        held_out_raters=cast_by,
        train_thumbs=_alone(train_alone, raters),
        held_out_thumbs=_alone(test_alone, raters),
        demonstrations=demonstrations,
        prompts=prompts,
        older_prompts=without(
            [c.prompt for c in train if c.id not in new], [c.prompt for c in train if c.id in new]
        ),
        held_out_prompts=unique([c.prompt for c in held_out]),
        held_out_rater_prompts=without([c.prompt for c in by_held_out_raters], prompts),
    )


def _require_evidence(
    rows: Sequence[StoredComparison],
    new: int,
    held_out: Sequence[StoredComparison],
    settings: CycleSettings,
) -> None:
    """Refuse to train on what cannot come to anything."""
    decided = sum(c.label != "tie" for c in rows)
    if decided < settings.min_comparisons:
        raise NotEnoughDataError(
            f"too little evidence: {decided} decided comparisons, {settings.min_comparisons} "
            f"are needed; collect more votes or lower cycle.min_comparisons"
        )
    if new < settings.min_new_comparisons:
        raise NotEnoughDataError(
            f"nothing new: {new} comparisons that no cycle has used, "
            f"{settings.min_new_comparisons} are needed; collect more votes"
        )
    different = len({json.dumps(c.prompt) for c in held_out if c.label != "tie"})
    if different < settings.gate.min_prompts:
        raise NotEnoughDataError(
            f"too little evidence: votes on {different} held-out prompts, "
            f"{settings.gate.min_prompts} are needed; collect votes on more different questions"
        )


def fit_prompts(snapshot: Snapshot, base: Base, max_tokens: int) -> Snapshot:
    """The snapshot with prompts as the server would show them: oldest turns left out if too long.

    A prompt whose last message alone is too long is left out; rollouts on it would fit nowhere.
    """

    def fitted(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        cut = (fit_prompt(base.tokenizer, prompt, max_tokens) for prompt in prompts)
        return unique([prompt for prompt in cut if prompt is not None])

    held_out = fitted(snapshot.held_out_prompts)
    if not held_out:
        raise NotEnoughDataError("0 held-out prompts to compare policies on; collect more votes")
    prompts = fitted(snapshot.prompts)
    return replace(
        snapshot,
        prompts=prompts,
        older_prompts=fitted(snapshot.older_prompts),
        held_out_prompts=held_out,
        # two prompts may have become the same
        held_out_rater_prompts=without(fitted(snapshot.held_out_rater_prompts), prompts),
    )


def _plain(
    comparisons: Sequence[StoredComparison], raters: defaultdict[str, str]
) -> tuple[Comparison, ...]:
    """For training: numbers in place of the raters' names, and the pairs of one opinion together.

    The store gives each pair its part of its opinion's weight; training takes the mean over the
    pairs, so each gets the whole weight here.
    """
    groups = [_group(c) for c in comparisons]
    sizes = Counter(groups)
    numbers = {group: str(number) for number, group in enumerate(sizes)}
    return tuple(
        Comparison(
            c.prompt,
            c.response_a,
            c.response_b,
            c.label,
            weight=c.weight * (sizes[group] if group else 1),
            strength=c.strength,
            group=numbers[group] if group else None,
            raters=(raters[c.rater_id], raters[c.other_rater_id]) if c.other_rater_id else None,
            could_tie=c.source in ("choice", "ranking"),
        )
        for c, group in zip(comparisons, groups, strict=True)
    )


def _group(c: StoredComparison) -> tuple[str, ...] | None:
    """What the pairs of one ranking share, and those of one rater's thumbs on one prompt."""
    if c.source == "ranking":
        return c.event_ids
    return (c.rater_id, json.dumps(c.prompt)) if c.source == "thumbs" else None


def _alone(
    unpaired: Sequence[StoredUnpaired], raters: defaultdict[str, str]
) -> tuple[Unpaired, ...]:
    return tuple(
        Unpaired(u.prompt, u.response, u.good, raters[u.rater_id], u.weight) for u in unpaired
    )


def unique(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once, in order of first appearance."""
    return tuple({json.dumps(p): p for p in prompts}.values())


def without(prompts: Sequence[Prompt], others: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once that is not among the others."""
    known = {json.dumps(p) for p in others}
    return tuple(p for p in unique(prompts) if json.dumps(p) not in known)
