"""The evidence of one cycle, by id: what it may look at, and how much each counts.

It is all that a cycle keeps on disk of what people said. No text is read to choose it, and what
is read does not grow with the store.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from feedback_store import BASE_ADAPTER, FeedbackStore, OpinionRow
from rlhf_core.config import CycleSettings, DataSettings
from rlhf_core.cycle.sampling import Chances, Opinions, draw


@dataclass(frozen=True, slots=True)
class Evidence:
    """Ids, and the weights of comparisons and thumbs at the time when they were chosen."""

    comparisons: dict[str, float]
    old_comparisons: list[str]  # those of them that were there for the last cycle
    unpaired: dict[str, float]
    demonstrations: list[str]
    old_demonstrations: list[str]  # as for comparisons
    unvoted: list[str]  # messages of users
    seen: dict[str, int]  # the last number of each table: what comes later is new


def choose_evidence(store: FeedbackStore, settings: CycleSettings) -> Evidence:
    """Choose what a cycle learns from and is measured by, within the caps of ``settings.data``."""
    data, seen, before = settings.data, store.last_numbers(), store.seen_numbers()
    versions = _versions(store)
    deciding = store.deciding_kinds(programs=data.programs_decide)
    # They train, and the gate does not ask them. The store knows: see `note_programs`.
    beside, share = store.deciding_kinds(programs=True) - deciding, store.program_share()

    def drawn_of(
        kinds: Collection[str], table: str, split: str, most: int
    ) -> tuple[Opinions, Opinions]:
        """New and old opinions of these kinds of raters, at most so many together."""
        seed = f"{settings.seed}/{table}/{split}/{seen[table]}"
        ranges = range(before[table] + 1, seen[table] + 1), range(1, before[table] + 1)
        new, old = (
            store.opinion_pool(table, split, numbers=numbers, most=most, seed=seed, kinds=kinds)
            for numbers in ranges
        )
        return draw(new, old, most, Chances(data, versions, seed))

    def drawn(table: str, split: str, most: int) -> tuple[Opinions, Opinions]:
        """At most so many opinions, people's first: programs get what is left, up to a share."""
        people = drawn_of(deciding, table, split, most)
        room = min(most - sum(map(len, people)), int(most * share))
        if split != "train" or not beside or not room:
            return people
        theirs = drawn_of(beside, table, split, room)
        return [*people[0], *theirs[0]], [*people[1], *theirs[1]]

    comparisons, old_comparisons, unpaired = list[OpinionRow](), list[str](), list[OpinionRow]()
    training = list[OpinionRow]()
    for split in ("train", "held_out", "held_out_raters"):
        most = data.most_opinions if split == "train" else data.most_held_out
        new, old = drawn("comparisons", split, most)
        drawn_rows = [row for opinion in (*new, *old) for row in opinion]
        old_comparisons += [row.id for opinion in old for row in opinion]
        comparisons += drawn_rows
        if split == "held_out_raters":
            continue  # nothing uses their thumbs
        most = data.most_thumbs if split == "train" else data.most_held_out
        thumbs = drawn("unpaired", split, most)
        alone = [row for opinions in thumbs for opinion in opinions for row in opinion]
        unpaired += alone
        training += [*drawn_rows, *alone] if split == "train" else []

    most = data.most_demonstrations
    new, old = drawn("demonstrations", "train", most + 1)
    if len(new) + len(old) > most:  # else they are all that there are
        new = new[:most]
        few = data.fewest_demonstrations - len(new)
        mixed = max(few, round(data.demonstration_mix * len(new)))
        old = old[: min(mixed, most - len(new))]
    # Nobody counts for more than a share of what this cycle learns from: so the caps on raters'
    # weights are computed on it alone, and that on programs on what trains.
    said = _said((*comparisons, *unpaired))
    factors = store.rater_weights(said, training=_said(training))

    def weights(rows: list[OpinionRow]) -> dict[str, float]:
        return {row.id: row.weight * factors.get(row.rater_id, 1.0) for row in rows}

    return Evidence(
        comparisons=weights(comparisons),
        old_comparisons=old_comparisons,
        unpaired=weights(unpaired),
        demonstrations=[row.id for opinion in (*new, *old) for row in opinion],
        old_demonstrations=[row.id for opinion in old for row in opinion],
        unvoted=store.unvoted_prompts(data.most_unvoted_prompts),
        seen=seen,
    )


def note_programs(store: FeedbackStore, data: DataSettings) -> None:
    """Note which programs train, if the settings say it; else what a server noted stays."""
    if "programs" in data.model_fields_set:
        store.let_programs_train(data.programs, share=data.programs_share)


def _said(opinions: Iterable[OpinionRow]) -> dict[str, float]:
    """The weight of what each rater said."""
    said: defaultdict[str, list[float]] = defaultdict(list)
    for row in opinions:
        said[row.rater_id].append(row.weight)
    return {rater: math.fsum(weights) for rater, weights in said.items()}


def _versions(store: FeedbackStore) -> list[str]:
    """The published policies up to the one being served, oldest first."""
    names = [a.name for a in store.adapters("policy") if a.state == "published"]
    served = store.serving().adapter
    return names[: names.index(served) + 1] if served in names else [BASE_ADAPTER]
