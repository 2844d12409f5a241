"""From what raters said to comparisons: pure functions over light records, no database.

The unit is all that one rater said about one prompt. A text is known by its hash
(`splits.text_hash` says when two are the same), and a pair of equal texts is dropped. Invariants:
the result depends on which opinions stand, never on their order; the same opinion always has the
same id, so a vote that is taken back and cast again is not a new one; if the two sides of a choice
are swapped, the sides of its comparison are, and nothing else changes; two texts have at most one
comparison.

- A choice compares its two responses, as shown.
- A ranking of K responses gives all pairs, each with weight 1/C(K,2): one opinion, not many.
- A rewritten response is better than the original.
- Thumbs make pairs only within one rater and one prompt. Only there do the rater's habits and the
  prompt's difficulty cancel, which leaves exactly the Bradley-Terry model. N ups and M downs share
  the weight of min(N, M) opinions.
- A retry that the rater accepted is weakly better (`RETRY_WEIGHT`) than the response that it
  replaced.
- A retry that the rater compared with that response is one comparison: better, worse or a tie.
- Of several judgements of the same two texts the most direct one counts; of equally direct ones,
  the latest.
- A thumb without an opposite, and "both bad", judge one response alone: they are unpaired.

After a change of these rules raise `_DERIVATION` in `refresh.py`; otherwise stores keep what they
derived before.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import Literal, NamedTuple

from feedback_store.records import Label, Source, UnpairedSource

OpinionSource = Literal["choice", "ranking", "edit", "than_before", "retry", "thumb", "both_bad"]

_ABSOLUTE = ("thumb", "both_bad")
_DIRECTNESS: tuple[Source, ...] = ("choice", "ranking", "edit", "than_before", "thumbs", "retry")
# A rater who accepts the new reply may still have liked the old one: with a label wrong in 3 of 10
# cases its gradient is 1 - 2 * 0.3 of a sure one's (rDPO's correction of a noisy label).
RETRY_WEIGHT = 0.4


class JudgedReply(NamedTuple):
    """A judged response: its message or demonstration, the hash of its text, and its prompt.

    `held_out` says whether the question is for measuring only.
    """

    id: str
    text: str
    prompt_id: str
    held_out: int = 0


class Opinion(NamedTuple):
    """What one standing event says about one, two or more replies, in the order shown.

    `places` has one number for each reply: its rank, the best being 0, or for "thumb" and
    "both_bad" +1 (good) or -1 (bad).
    """

    event_id: str
    source: OpinionSource
    created_at: str
    replies: tuple[JudgedReply, ...]
    places: tuple[int, ...]
    strength: float | None = None


class DraftComparison(NamedTuple):
    """A comparison by ids and hashes, before anyone reads its texts."""

    id: str
    a: JudgedReply
    b: JudgedReply
    label: Label
    source: Source
    weight: float
    strength: float | None
    created_at: str
    event_ids: tuple[str, ...]


class DraftUnpaired(NamedTuple):
    """A judgement of one reply alone, by id and hash."""

    id: str
    reply: JudgedReply
    good: bool
    source: UnpairedSource
    weight: float
    created_at: str
    event_id: str


class Derived(NamedTuple):
    """What the opinions of one rater on one prompt imply."""

    pairs: list[DraftComparison]
    singles: list[DraftUnpaired]


def derive(rater_id: str, prompt: str, opinions: Iterable[Opinion]) -> Derived:
    """Comparisons and unpaired judgements of one rater on one prompt, sorted by id.

    Args:
        rater_id: Whose opinions they are.
        prompt: The hash of the prompt.
        opinions: Those that stand, in any order.
    """
    owner = f"{rater_id}\n{prompt}"
    relative: list[Opinion] = []
    absolute: list[Opinion] = []
    for opinion in opinions:
        (absolute if opinion.source in _ABSOLUTE else relative).append(opinion)
    proposed = [pair for opinion in relative for pair in _pairs_of(owner, opinion)]
    singles: list[DraftUnpaired] = []
    if absolute:
        thumbs = _latest_by_text(absolute)
        proposed += _pairs_of_thumbs(owner, thumbs)
        singles = sorted(_singles(owner, thumbs, absolute))
    return Derived(pairs=sorted(_most_direct(proposed)), singles=singles)


def _pairs_of(owner: str, opinion: Opinion) -> Iterator[DraftComparison]:
    """All pairs of what was shown together, or of an old and a new reply."""
    replies, places = opinion.replies, opinion.places
    side_by_side = opinion.source in ("choice", "ranking")
    weight = RETRY_WEIGHT
    if opinion.source != "retry":
        weight = 2 / (len(replies) * (len(replies) - 1))
    for (a, place_a), (b, place_b) in combinations(zip(replies, places, strict=True), 2):
        label: Label = "tie" if place_a == place_b else "a" if place_a < place_b else "b"
        if not side_by_side:
            a, b, label = _by_text(a, b, label)
        source: Source = opinion.source  # type: ignore[assignment]  # the others are absolute
        name = _pair_id(owner, a.text, b.text, label, source)
        events = (opinion.event_id,)
        yield DraftComparison(
            name, a, b, label, source, weight, opinion.strength, opinion.created_at, events
        )


def _latest_by_text(absolute: Sequence[Opinion]) -> dict[str, Opinion]:
    """The thumb that counts on each text, as two messages may say the same: the latest."""
    thumbs = sorted((o for o in absolute if o.source == "thumb"), key=_age)
    return {opinion.replies[0].text: opinion for opinion in thumbs}


def _pairs_of_thumbs(owner: str, thumbs: dict[str, Opinion]) -> Iterator[DraftComparison]:
    ups = [opinion for opinion in thumbs.values() if opinion.places[0] > 0]
    downs = [opinion for opinion in thumbs.values() if opinion.places[0] < 0]
    for up, down in product(ups, downs):
        a, b, label = _by_text(up.replies[0], down.replies[0], "a")
        name = _pair_id(owner, a.text, b.text, label, "thumbs")
        weight = 1 / max(len(ups), len(downs))
        at = max(up.created_at, down.created_at)
        events = tuple(sorted((up.event_id, down.event_id)))
        yield DraftComparison(name, a, b, label, "thumbs", weight, None, at, events)


def _by_text(
    a: JudgedReply, b: JudgedReply, label: Label
) -> tuple[JudgedReply, JudgedReply, Label]:
    """The order of replies that were not shown side by side: by hash, or A would always win."""
    return (a, b, label) if a.text <= b.text else (b, a, _flipped(label))


def _flipped(label: Label) -> Label:
    return "tie" if label == "tie" else "b" if label == "a" else "a"


def _most_direct(proposed: Sequence[DraftComparison]) -> list[DraftComparison]:
    """One pair for every two different texts: the most direct one, then the latest."""
    different = [pair for pair in proposed if pair.a.text != pair.b.text]
    if len(different) < 2:
        return different
    best: dict[tuple[str, str], tuple[tuple[int, str, tuple[str, ...]], DraftComparison]] = {}
    for pair in different:
        one, other = pair.a.text, pair.b.text
        subject = (one, other) if one < other else (other, one)
        rank = (-_DIRECTNESS.index(pair.source), pair.created_at, pair.event_ids)
        if subject not in best or best[subject][0] < rank:
            best[subject] = (rank, pair)
    return [pair for _, pair in best.values()]


def _singles(
    owner: str, thumbs: dict[str, Opinion], absolute: Sequence[Opinion]
) -> Iterator[DraftUnpaired]:
    """Thumbs without an opposite, and replies that were found bad together."""
    values = {opinion.places[0] for opinion in thumbs.values()}
    if len(values) == 1:
        for opinion in thumbs.values():
            yield _single(owner, opinion, 0)
    bad: dict[str, DraftUnpaired] = {}
    for opinion in sorted((o for o in absolute if o.source == "both_bad"), key=_age):
        for place, reply in enumerate(opinion.replies):
            if reply.text not in thumbs:
                bad[reply.text] = _single(owner, opinion, place)
    yield from bad.values()


def _single(owner: str, opinion: Opinion, place: int) -> DraftUnpaired:
    reply, good = opinion.replies[place], opinion.places[place] > 0
    return DraftUnpaired(
        id=_digest(f"{owner}\n{reply.text}\n{good}\n{opinion.source}"),
        reply=reply,
        good=good,
        source=opinion.source,  # type: ignore[arg-type]  # only "thumb" and "both_bad" come here
        weight=1 / len(opinion.replies),
        created_at=opinion.created_at,
        event_id=opinion.event_id,
    )


def _pair_id(owner: str, one: str, other: str, label: Label, source: Source) -> str:
    """The id of an opinion, the same on whichever side its replies were shown."""
    if one > other:
        one, other, label = other, one, _flipped(label)
    return _digest(f"{owner}\n{one}\n{other}\n{label}\n{source}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _age(opinion: Opinion) -> tuple[str, str]:
    return opinion.created_at, opinion.event_id
