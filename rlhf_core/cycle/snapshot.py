"""The evidence of one cycle: what the store knows, as the plain records that training takes."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import feedback_store
from feedback_store import FeedbackStore
from rlhf_core.config import CycleSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.model.base_model import Base
from rlhf_core.model.chat_format import fit_prompt
from rlhf_core.records import Comparison, Demonstration, Prompt, Unpaired


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The evidence of one cycle, fixed at its start."""

    ids: tuple[str, ...]
    other_ids: tuple[str, ...]  # of thumbs and demonstrations
    train: tuple[Comparison, ...]
    held_out: tuple[Comparison, ...]
    train_votes: tuple[Comparison, ...]  # without edits: what raters said of two given replies
    held_out_votes: tuple[Comparison, ...]
    train_thumbs: tuple[Unpaired, ...]  # without an opposite
    held_out_thumbs: tuple[Unpaired, ...]
    demonstrations: tuple[Demonstration, ...]
    prompts: tuple[Prompt, ...]  # training prompts, each once
    older_prompts: tuple[Prompt, ...]  # those of them that only earlier cycles' votes are about
    held_out_prompts: tuple[Prompt, ...]


def take_snapshot(store: FeedbackStore, settings: CycleSettings) -> Snapshot:
    """Derive comparisons from all events, weigh their raters, and fix what this cycle will use.

    Raises:
        NotEnoughDataError: Too few usable comparisons, or none that is new.
    """
    store.assess_raters(by="cycle")
    rows = store.comparisons()
    decided = [c for c in rows if c.label != "tie"]
    if len(decided) < settings.min_comparisons:
        raise NotEnoughDataError(
            f"too little evidence: {len(decided)} decided comparisons, {settings.min_comparisons} "
            f"are needed; collect more votes or lower cycle.min_comparisons"
        )
    new = {c.id for c in store.comparisons(unused=True)}
    if len(new) < settings.min_new_comparisons:
        raise NotEnoughDataError(
            f"nothing new: {len(new)} comparisons that no cycle has used, "
            f"{settings.min_new_comparisons} are needed; collect more votes"
        )
    sides = {side: [c for c in rows if c.split == side] for side in ("train", "held_out")}
    train, held_out = sides["train"], sides["held_out"]
    different = len({json.dumps(c.prompt) for c in held_out if c.label != "tie"})
    if different < settings.gate.min_prompts:
        raise NotEnoughDataError(
            f"too little evidence: votes on {different} held-out prompts, "
            f"{settings.gate.min_prompts} are needed; collect votes on more different questions"
        )
    written, thumbs = store.demonstrations(split="train"), store.unpaired()
    demonstrations = [Demonstration(d.prompt, d.content) for d in written]
    across: dict[str, list[feedback_store.StoredComparison]] = {}
    alone: dict[str, list[feedback_store.StoredUnpaired]] = {}
    for side in sides:
        across[side], alone[side] = feedback_store.pair_across_raters(
            [thumb for thumb in thumbs if thumb.split == side]
        )
    raters: defaultdict[str, str] = defaultdict(lambda: str(len(raters)))
    return Snapshot(
        ids=tuple(c.id for c in rows),
        other_ids=(*(d.id for d in written), *(thumb.id for thumb in thumbs)),
        train=_plain([*train, *across["train"]], raters),
        held_out=_plain([*held_out, *across["held_out"]], raters),
        train_votes=_plain([c for c in train if c.source != "edit"], raters),
        held_out_votes=_plain([c for c in held_out if c.source != "edit"], raters),
        train_thumbs=_alone(alone["train"], raters),
        held_out_thumbs=_alone(alone["held_out"], raters),
        demonstrations=tuple(demonstrations),
        prompts=unique([*(c.prompt for c in train), *(d.prompt for d in demonstrations)]),
        older_prompts=without(
            [c.prompt for c in train if c.id not in new], [c.prompt for c in train if c.id in new]
        ),
        held_out_prompts=unique([c.prompt for c in held_out]),
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
    return replace(
        snapshot,
        prompts=fitted(snapshot.prompts),
        older_prompts=fitted(snapshot.older_prompts),
        held_out_prompts=held_out,
    )


def _plain(
    comparisons: Sequence[feedback_store.StoredComparison], raters: defaultdict[str, str]
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


def _group(c: feedback_store.StoredComparison) -> tuple[str, ...] | None:
    """What the pairs of one ranking share, and those of one rater's thumbs on one prompt."""
    if c.source == "ranking":
        return c.event_ids
    return (c.rater_id, json.dumps(c.prompt)) if c.source == "thumbs" else None


def _alone(
    unpaired: Sequence[feedback_store.StoredUnpaired], raters: defaultdict[str, str]
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
