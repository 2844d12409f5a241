"""Thumbs of different raters on the same prompt, made into comparisons: a pure function.

If rater i likes one response and rater j dislikes another, P = sigmoid(r1 - r2 - (c_i - c_j)). The
prompt's difficulty cancels, as it does within one rater, but the raters' habits c do not. So the
comparison names both raters, and the reward model learns an offset for each. It is not stored: each
thumb is used at most once, so one more thumb may change how the others are paired.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from feedback_store.records import Label, Split, StoredComparison, StoredUnpaired
from feedback_store.splits import prompt_hash, text_hash


def pair_across_raters(
    unpaired: Iterable[StoredUnpaired],
) -> tuple[list[StoredComparison], list[StoredUnpaired]]:
    """Pair thumbs up with other raters' thumbs down on the same prompt; return pairs and the rest.

    N thumbs up and M down make at most min(N, M) pairs, and each thumb is in at most one. Ids
    decide which thumbs pair, never their order.
    """
    groups: dict[tuple[str | None, Split], list[StoredUnpaired]] = defaultdict(list)
    rest: list[StoredUnpaired] = []
    for one in unpaired:
        if one.source == "thumb":
            groups[prompt_hash(one.prompt), one.split].append(one)
        else:
            rest.append(one)
    pairs: list[StoredComparison] = []
    for group in groups.values():
        matched = list(_matched(sorted(group, key=lambda one: one.id)))
        pairs += [_comparison(up, down) for up, down in matched]
        used = {one.id for pair in matched for one in pair}
        rest += [one for one in group if one.id not in used]
    return sorted(pairs, key=lambda pair: pair.id), sorted(rest, key=lambda one: one.id)


def _matched(group: Sequence[StoredUnpaired]) -> Iterator[tuple[StoredUnpaired, StoredUnpaired]]:
    downs = [one for one in group if not one.good]
    for up in (one for one in group if one.good):
        for down in downs:
            if down.rater_id != up.rater_id and down.response != up.response:
                downs.remove(down)
                yield up, down
                break


def _comparison(up: StoredUnpaired, down: StoredUnpaired) -> StoredComparison:
    swapped = text_hash(up.response) > text_hash(down.response)
    a, b = (down, up) if swapped else (up, down)
    label: Label = "b" if swapped else "a"
    return StoredComparison(
        id=hashlib.sha256(f"across\n{up.id}\n{down.id}".encode()).hexdigest()[:32],
        prompt=a.prompt,
        response_a=a.response,
        response_b=b.response,
        label=label,
        source="across",
        weight=min(up.weight, down.weight),
        rater_id=a.rater_id,
        other_rater_id=b.rater_id,
        split=a.split,
        created_at=max(up.created_at, down.created_at),
        event_ids=tuple(sorted((up.event_id, down.event_id))),
    )
