"""The evidence of one cycle, by id: what it may look at, and how much each counts.

It is all that a cycle keeps on disk of what people said. No text is read to choose it, and what
is read does not grow with the store.
"""

import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from feedback_store import BASE_ADAPTER, FeedbackStore, OpinionRow
from rlhf_core.config import CycleSettings
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
    beside = set(data.programs) - deciding  # they train, and the gate does not ask them

    def drawn_of(
        kinds: Collection[str], table: str, split: str, most: int
    ) -> tuple[Opinions, Opinions]:
        seed = f"{settings.seed}/{table}/{split}/{seen[table]}"
        ranges = range(before[table] + 1, seen[table] + 1), range(1, before[table] + 1)
        new, old = (
            store.opinion_pool(table, split, numbers=numbers, most=most, seed=seed, kinds=kinds)
            for numbers in ranges
        )
        return draw(new, old, most, Chances(data, versions, seed))

    def drawn(table: str, split: str, most: int) -> tuple[Opinions, Opinions]:
        """At most so many opinions; however many programs speak, people keep their places."""
        if split != "train" or not beside:
            return drawn_of(deciding, table, split, most)
        theirs = drawn_of(beside, table, split, int(most * data.programs_share))
        room = most - sum(map(len, theirs))
        people = drawn_of(deciding, table, split, room) if room else ([], [])
        return [*people[0], *theirs[0]], [*people[1], *theirs[1]]

    comparisons, old_comparisons, unpaired = list[OpinionRow](), list[str](), list[OpinionRow]()
    for split in ("train", "held_out", "held_out_raters"):
        most = data.most_opinions if split == "train" else data.most_held_out
        new, old = drawn("comparisons", split, most)
        comparisons += [row for opinion in (*new, *old) for row in opinion]
        old_comparisons += [row.id for opinion in old for row in opinion]
        if split == "held_out_raters":
            continue  # nothing uses their thumbs
        most = data.most_thumbs if split == "train" else data.most_held_out
        thumbs = drawn("unpaired", split, most)
        unpaired += [row for opinions in thumbs for opinion in opinions for row in opinion]

    most = data.most_demonstrations
    new, old = drawn("demonstrations", "train", most + 1)
    if len(new) + len(old) > most:  # else they are all that there are
        new = new[:most]
        few = data.fewest_demonstrations - len(new)
        mixed = max(few, round(data.demonstration_mix * len(new)))
        old = old[: min(mixed, most - len(new))]
    # Nobody counts for more than a share of what this cycle learns from: so the caps on raters'
    # weights are computed on it alone.
    said: defaultdict[str, list[float]] = defaultdict(list)
    for row in (*comparisons, *unpaired):
        said[row.rater_id].append(row.weight)
    factors = store.rater_weights({rater: math.fsum(weights) for rater, weights in said.items()})

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


def _versions(store: FeedbackStore) -> list[str]:
    """The published policies up to the one being served, oldest first."""
    names = [a.name for a in store.adapters("policy") if a.state == "published"]
    served = store.serving().adapter
    return names[: names.index(served) + 1] if served in names else [BASE_ADAPTER]
