"""What one cycle learns from: the store's rows as the plain records that training takes."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedback_store import (
    EvidenceAmount,
    FeedbackStore,
    Said,
    StoredComparison,
    StoredUnpaired,
    amount_of,
    pair_across_raters,
)
from rlhf_core.config import CycleSettings
from rlhf_core.cycle.evidence import Evidence, choose_evidence
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.gate.held_out_raters import are_enough
from rlhf_core.records import Comparison, Demonstration, Prompt, Unpaired


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All data of one cycle, fixed at its start."""

    evidence: Evidence  # all that it was made from
    ids: tuple[str, ...]  # of the comparisons that the cycle will use
    train: tuple[Comparison, ...]
    held_out: tuple[Comparison, ...]
    train_votes: tuple[Comparison, ...]  # without edits: raters saw both replies
    held_out_votes: tuple[Comparison, ...]
    held_out_rater_votes: tuple[Comparison, ...]  # decided votes; empty if there are too few
    # The rater of each of these, as a number; if they are too few, of each vote that there is.
    held_out_raters: tuple[str, ...]
    train_thumbs: tuple[Unpaired, ...]  # thumbs without an opposite
    demonstrations: tuple[Demonstration, ...]
    prompts: tuple[Prompt, ...]  # training prompts with votes or demonstrations, each once
    unvoted_prompts: tuple[Prompt, ...]  # of people who may be learnt from; no votes, no answers
    older_prompts: tuple[Prompt, ...]  # those of `prompts` whose votes and answers are all old
    held_out_prompts: tuple[Prompt, ...]
    held_out_rater_prompts: tuple[Prompt, ...]  # asked by held-out raters, and not in `prompts`
    largest_rater_share: float  # of the weight of all comparisons
    new: int  # opinions since the cycle that was promoted last; their ages are smaller
    amount: EvidenceAmount  # without votes of held-out raters, which teach nothing
    kinds: dict[str, int]  # by kind of rater, their comparisons among those that are used


@dataclass(frozen=True, slots=True)
class Supply:
    """How much evidence there is, as far as it decides whether a cycle begins.

    Attributes:
        decided: Comparisons that are no ties.
        ties: The others.
        new: Comparisons since the last cycle that reached a verdict.
        held_out_prompts: Held-out prompts with a comparison, be it a tie.
        held_out_decided: Comparisons on them that are no ties.
        effective: All of it as one number, see `amount_of`.
    """

    decided: int
    ties: int
    new: int
    held_out_prompts: int
    held_out_decided: int
    effective: float

    def lack(self, settings: CycleSettings) -> str | None:
        """Why a cycle is refused whose data cannot lead to a promotion; None if it can."""
        if self.effective < settings.min_comparisons:
            return (
                f"too little evidence: {self.decided} decided comparisons, {self.ties} ties and "
                f"what thumbs alone add count as {self.effective:.1f} comparisons, "
                f"{settings.min_comparisons} are needed; collect more votes or lower "
                "cycle.min_comparisons"
            )
        if self.new < settings.min_new_comparisons:
            return (
                f"nothing new: {self.new} comparisons since the last cycle, "
                f"{settings.min_new_comparisons} are needed; collect more votes"
            )
        if self.held_out_prompts < settings.gate.min_prompts:
            return (
                f"too little evidence: votes on {self.held_out_prompts} held-out prompts, "
                f"{settings.gate.min_prompts} are needed; collect votes on more different questions"
            )
        if not self.held_out_decided:
            return (
                f"too little evidence: all votes on {self.held_out_prompts} held-out prompts are "
                "ties, 1 decided one is needed; collect more votes"
            )
        return None


def take_snapshot(store: FeedbackStore, settings: CycleSettings) -> Snapshot:
    """Weigh the raters, derive comparisons from new events, and fix what this cycle will use.

    Raises:
        NotEnoughDataError: There is too little evidence, nothing new, or votes on too few held-out
            prompts.
    """
    store.assess_raters(by="cycle")
    snapshot, supply = begin_snapshot(store, settings)
    if lack := supply.lack(settings):
        raise NotEnoughDataError(lack)
    return snapshot


def begin_snapshot(store: FeedbackStore, settings: CycleSettings) -> tuple[Snapshot, Supply]:
    """The snapshot that can be taken now, be it enough or not, and how much evidence it has."""
    evidence = choose_evidence(store, settings)
    rows = store.comparisons(weights=evidence.comparisons)
    new = store.new_comparisons(at_most=settings.data.most_opinions)
    snapshot = _snapshot(store, evidence, rows, settings)
    return snapshot, _supply(rows, new, snapshot.amount)


def read_snapshot(store: FeedbackStore, evidence: Evidence, settings: CycleSettings) -> Snapshot:
    """The snapshot that was made from this evidence, or another one if people changed their votes.

    Nothing is weighed or chosen again. What may no longer be learnt from is missing.
    """
    rows = store.comparisons(weights=evidence.comparisons)
    return _snapshot(store, evidence, rows, settings)


def _snapshot(
    store: FeedbackStore,
    evidence: Evidence,
    rows: Sequence[StoredComparison],
    settings: CycleSettings,
) -> Snapshot:
    train, held_out, by_held_out_raters = (
        [c for c in rows if c.split == split] for split in ("train", "held_out", "held_out_raters")
    )
    written = store.demonstrations(split="train", ids=evidence.demonstrations)
    demonstrations = tuple(Demonstration(d.prompt, d.content) for d in written)
    thumbs = store.unpaired(weights=evidence.unpaired)
    train_pairs, train_alone = pair_across_raters([t for t in thumbs if t.split == "train"])
    test_thumbs = [t for t in thumbs if t.split == "held_out"]
    test_pairs, _ = pair_across_raters(test_thumbs)
    prompts = unique([*(c.prompt for c in train), *(d.prompt for d in demonstrations)])
    asked_by_held_out_raters = without([c.prompt for c in by_held_out_raters], prompts)
    old, old_answers = set(evidence.old_comparisons), set(evidence.old_demonstrations)
    said = [(c.prompt, c.id in old) for c in train]
    said += [(d.prompt, d.id in old_answers) for d in written]

    # Training needs to tell raters apart, not to know them: each name becomes a number.
    raters: defaultdict[str, str] = defaultdict(lambda: str(len(raters)))
    groups: defaultdict[tuple[str, ...], str] = defaultdict(lambda: str(len(groups)))
    newest_first = sorted(rows, key=lambda c: c.created_at, reverse=True)
    opinions = dict.fromkeys(_opinion(c) for c in newest_first)
    place = {opinion: age for age, opinion in enumerate(opinions)}
    ages = {c.id: place[_opinion(c)] for c in rows}
    since = _last_promotion(store)

    def compared(chosen: Sequence[StoredComparison]) -> tuple[Comparison, ...]:
        return _comparisons(chosen, raters, groups, ages)

    tests = [c for c in by_held_out_raters if c.label != "tie" and c.source != "edit"]
    cast_by = tuple(raters[c.rater_id] for c in tests)
    voted = tuple({_opinion(c): raters[c.rater_id] for c in tests}.values())
    if not are_enough(voted):
        tests, cast_by = [], voted  # nothing is measured on them, so none is noted as used
    most = settings.data.most_gate_prompts
    return Snapshot(
        evidence=evidence,
        ids=tuple(c.id for c in (*train, *held_out, *tests)),
        train=compared([*train, *train_pairs]),
        held_out=compared([*held_out, *test_pairs]),
        train_votes=compared([c for c in train if c.source != "edit"]),
        held_out_votes=compared([c for c in held_out if c.source != "edit"]),
        held_out_rater_votes=compared(tests),
        held_out_raters=cast_by,
        train_thumbs=_thumbs(train_alone, raters),
        demonstrations=demonstrations,
        prompts=prompts,
        unvoted_prompts=without(
            [*store.prompts_of(evidence.unvoted).values()], [*prompts, *asked_by_held_out_raters]
        ),
        older_prompts=without(
            [prompt for prompt, is_old in said if is_old],
            [prompt for prompt, is_old in said if not is_old],
        ),
        # What people called bad is asked, too: the more questions, the surer the win rate.
        held_out_prompts=fixed_sample(
            unique([*(c.prompt for c in held_out), *(t.prompt for t in test_thumbs)]), most
        ),
        held_out_rater_prompts=fixed_sample(asked_by_held_out_raters, most),
        largest_rater_share=_largest_share([*train, *held_out]),
        new=len({_opinion(c) for c in rows if c.created_at > since}),
        amount=_amount([*train, *held_out], thumbs),
        kinds=store.comparisons_by_kind([c.id for c in (*train, *held_out, *tests)]),
    )


def _supply(rows: Sequence[StoredComparison], new: int, amount: EvidenceAmount) -> Supply:
    decided = sum(c.label != "tie" for c in rows)
    held_out = [c for c in rows if c.split == "held_out"]
    return Supply(
        decided=decided,
        ties=len(rows) - decided,
        new=new,
        held_out_prompts=len(unique([c.prompt for c in held_out])),
        held_out_decided=sum(c.label != "tie" for c in held_out),
        effective=amount.effective,
    )


def _amount(rows: Sequence[StoredComparison], thumbs: Sequence[StoredUnpaired]) -> EvidenceAmount:
    """How much evidence a cycle would use, by the weights that its raters have."""
    said = [
        Said(json.dumps(c.prompt), *((0.0, c.weight) if c.label == "tie" else (c.weight, 0.0)))
        for c in rows
    ]
    return amount_of([*said, *(Said(json.dumps(t.prompt), 0.0, t.weight) for t in thumbs)])


def _comparisons(
    rows: Sequence[StoredComparison],
    raters: defaultdict[str, str],
    numbers: defaultdict[tuple[str, ...], str],
    ages: Mapping[str, int],
) -> tuple[Comparison, ...]:
    """For training: numbers in place of raters' names, and the pairs of one opinion as a group.

    The store splits the weight of an opinion among its pairs. Training takes the mean over the
    pairs of a group, so here each pair gets the whole weight.
    """
    groups = [_group(c) for c in rows]
    sizes = Counter(groups)
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
            could_tie=c.source in ("choice", "ranking", "than_before"),
            versions=(c.adapter_a, c.adapter_b) if c.adapter_a and c.adapter_b else None,
            age=ages.get(c.id, 0),  # a pair of two raters' thumbs is none of the rows
        )
        for c, group in zip(rows, groups, strict=True)
    )


def _last_promotion(store: FeedbackStore) -> str:
    """When the last cycle began whose policy people have talked to since.

    Without a promotion, when the last began that reached a verdict; empty if there is none.
    """
    ended = [c for c in store.cycles() if c.state in ("promoted", "passed", "rejected")]
    promoted = [c for c in ended if c.state != "rejected"]
    return next((c.started_at for c in (*promoted, *ended)), "")


def _largest_share(rows: Sequence[StoredComparison]) -> float:
    """The share of the rows' weight that the rater with the most of it has."""
    said: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        said[row.rater_id].append(row.weight)
    weights = [math.fsum(own) for own in said.values()]
    total = math.fsum(weights)
    return max(weights) / total if total else 0.0


def _group(c: StoredComparison) -> tuple[str, ...] | None:
    """The same for all pairs of one ranking, and for all thumbs of one rater on one prompt."""
    if c.source == "ranking":
        return c.event_ids
    return (c.rater_id, json.dumps(c.prompt)) if c.source == "thumbs" else None


def _opinion(c: StoredComparison) -> tuple[str, ...]:
    """What counts as one: a comparison, or all pairs of a group."""
    return _group(c) or (c.id,)


def _thumbs(rows: Sequence[StoredUnpaired], raters: defaultdict[str, str]) -> tuple[Unpaired, ...]:
    return tuple(Unpaired(u.prompt, u.response, u.good, raters[u.rater_id], u.weight) for u in rows)


def unique(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once, in order of first appearance."""
    return tuple({json.dumps(p): p for p in prompts}.values())


def without(prompts: Sequence[Prompt], others: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once, without those among ``others``."""
    known = {json.dumps(p) for p in others}
    return tuple(p for p in unique(prompts) if json.dumps(p) not in known)


def fixed_sample(prompts: Sequence[Prompt], most: int) -> tuple[Prompt, ...]:
    """At most ``most`` of the prompts in their order; of the same prompts always the same.

    So that two cycles measure by the same questions, as far as both have them.
    """
    lots = {json.dumps(p): hashlib.sha256(json.dumps(p).encode()).digest() for p in prompts}
    kept = set(sorted(lots, key=lots.__getitem__)[:most])
    return tuple(p for p in prompts if json.dumps(p) in kept)
