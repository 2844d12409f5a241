"""What simulated labelers say of replies: the only data of the experiment that the judge is behind.

Training labelers rank replies to training prompts. Held-out labelers, who are others, only say
which of two replies is better when policies are compared, each comparison one labeler. Whenever a
labeler chooses between two replies, the sides are drawn by lot.
"""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rlhf_core.records import Comparison, Label, Unpaired
from rlhf_core.reproduction.policies import (
    Reply,
    as_prompt,
    ranked_requests,
    write_votes,
)
from rlhf_core.reproduction.profiles import ReproductionProfile
from rlhf_core.reproduction.rater_weights import Overlap, weights_by_agreement
from rlhf_core.reproduction.stages import Facts, StageInput
from rlhf_core.reproduction.voting_rounds import round_requests
from rlhf_core.worlds.miniature.labelers import (
    AGREEMENT,
    Group,
    Labeler,
    Pick,
    ShownPair,
    calibrated,
    labelers,
    with_adversaries,
)
from rlhf_core.worlds.miniature.world import CustomerRequest

SIGNALS = ("choices", "thumbs", "both")  # of claim 13
FOLDS = 5  # of training labelers, in claim 9
TURNED: dict[Pick, Pick] = {"a": "b", "b": "a", "tie": "tie"}
HELD_OUT_SHARE = 4  # one held-out labeler for so many training ones
TWICE_SHARE = 4  # of so many ranked prompts one is ranked by two labelers, in claim 12
HOSTILE = (0, 5, 15, 30)  # percent of the labelers
WEIGHTINGS = ("equal", "agreement")


def label_replies(given: StageInput) -> Facts:
    """Each prompt's replies are ranked by one training labeler; all pairs of a ranking are one.

    Options: ``left_out``, a fold of labelers who rank nothing.
    """
    asked, replies = ranked_requests(given), given.facts("samples")["replies"]
    people = people_of(given.profile, given.seed, "train", shown(asked, replies))
    if "left_out" in given.options:
        people, _ = fold_of(people, given.options["left_out"])
    rng = random.Random(f"labelling/{given.seed}")
    found = []
    for number, (request, row) in enumerate(zip(asked, replies, strict=True)):
        found += ranked(rng.choice(people), request, row, group=str(number))
    write_votes(given.folder, found)
    return {"comparisons": len(found), "rankings": len(asked)}


def give_signals(given: StageInput) -> Facts:
    """As many events as there are prompts: choices, thumbs on two replies, or half of each.

    The replies are two by SFT, as a service that serves it shows them. Opposite thumbs by one
    labeler on one prompt are a comparison. Options: ``signal``.
    """
    asked, replies = ranked_requests(given), given.facts("samples")["replies"]
    people = people_of(given.profile, given.seed, "train", shown(asked, replies))
    rng, signal = random.Random(f"signals/{given.seed}"), given.options["signal"]
    comparisons: list[Comparison] = []
    thumbs: list[Unpaired] = []
    events = 0
    for number, pair in enumerate(shown(asked, replies)):
        who, (request, a, b, finished) = rng.choice(people), pair
        if events >= len(asked) or a == b:
            continue
        if signal == "choices" or (signal == "both" and number % 2):
            comparisons.append(Comparison(as_prompt(request), a, b, pick(who, pair, rng)))
            events += 1
            continue
        given_thumbs = {
            reply: who.thumb(request, reply, finished=ended)
            for reply, ended in zip((a, b), finished, strict=True)
        }
        voted = {reply: thumb == "up" for reply, thumb in given_thumbs.items() if thumb}
        events += len(voted)
        if len(set(voted.values())) == 2:
            label: Label = "a" if voted[a] else "b"
            comparisons.append(Comparison(as_prompt(request), a, b, label, could_tie=False))
        else:
            thumbs += [Unpaired(as_prompt(request), r, good, who.name) for r, good in voted.items()]
    write_votes(given.folder, comparisons, thumbs)
    return {"events": events, "comparisons": len(comparisons), "thumbs": len(thumbs)}


def label_round(given: StageInput) -> Facts:
    """Each prompt's replies of a round are ranked by one training labeler, as in `label_replies`.

    The labelers are the same people, no noisier than they are there.

    Options: ``round``.
    """
    number = given.options["round"]
    first = shown(ranked_requests(given), given.facts("samples")["replies"])
    people = people_of(given.profile, given.seed, "train", first)
    asked = round_requests(given.profile, given.seed, number)
    rows = given.facts(f"round-{number}-samples")["replies"]
    rng = random.Random(f"labelling/{given.seed}/round {number}")
    found = []
    for place, (request, row) in enumerate(zip(asked, rows, strict=True)):
        found += ranked(rng.choice(people), request, row, group=f"{number}/{place}")
    write_votes(given.folder, found)
    return {"comparisons": len(found), "rankings": len(asked)}


def label_twice(given: StageInput) -> Facts:
    """Two labelers rank each prompt's replies, and some labelers are hostile.

    Options: ``hostile``, how many percent of them; ``weights``, one of `WEIGHTINGS`, which changes
    what the votes count and never what they are.
    """
    every, replies = ranked_requests(given), given.facts("samples")["replies"]
    people = with_adversaries(
        people_of(given.profile, given.seed, "train", shown(every, replies)),
        share=given.options["hostile"] / 100,
        seed=given.seed,
    )
    rng, asked = random.Random(f"twice/{given.seed}"), every[: len(every) // TWICE_SHARE]
    rankings: list[tuple[str, list[Comparison]]] = []
    overlaps: list[Overlap] = []
    for number, request in enumerate(asked):
        pair = rng.sample(people, 2)
        both = [
            ranked(who, request, replies[number], group=f"{number}/{side}")
            for side, who in enumerate(pair)
        ]
        rankings += [(who.name, one) for who, one in zip(pair, both, strict=True)]
        # two rankings of the same replies have the same pairs, in the same order
        decided = [x.label == y.label for x, y in zip(*both, strict=True) if not _tied(x, y)]
        if decided:
            overlaps.append(Overlap(pair[0].name, pair[1].name, sum(decided) / len(decided)))
    by_agreement = given.options["weights"] == "agreement"
    weights = dict.fromkeys((who.name for who in people), 1.0)
    weights |= weights_by_agreement(overlaps) if by_agreement else {}
    write_votes(
        given.folder, [replace(c, weight=weights[name]) for name, one in rankings for c in one]
    )
    means = {
        said: _mean(weights[who.name] for who in people if bool(who.attack) == bad)
        for said, bad in (("honest", False), ("hostile", True))
    }
    return {"rankings": len(rankings), "agreements": len(overlaps), "mean weight": means}


def _tied(*both: Comparison) -> bool:
    return any(c.label == "tie" for c in both)


def _mean(numbers: Iterable[float]) -> float | None:
    every = list(numbers)
    return sum(every) / len(every) if every else None


def fold_of(people: Sequence[Labeler], fold: int) -> tuple[list[Labeler], list[Labeler]]:
    """The labelers of a fold's group, and those whom it leaves out."""
    left_out = list(people[fold::FOLDS])
    return [who for who in people if who not in left_out], left_out


def shown(asked: Sequence[CustomerRequest], replies: Sequence[Sequence[Reply]]) -> list[ShownPair]:
    """The first two replies to each request, which are by the same policy."""
    return [
        ShownPair(request, a, b, (a_ended, b_ended))
        for request, ((a, a_ended), (b, b_ended), *_) in zip(asked, replies, strict=True)
    ]


def pick(who: Labeler, pair: ShownPair, rng: random.Random) -> Pick:
    """What a labeler chooses of a pair whose sides are drawn by lot."""
    if rng.random() >= 0.5:
        return who.choose(*pair)
    a_ended, b_ended = pair.finished
    return TURNED[who.choose(pair.request, pair.b, pair.a, (b_ended, a_ended))]


def people_of(
    profile: ReproductionProfile, seed: int, group: Group, pairs: Sequence[ShownPair]
) -> list[Labeler]:
    """The labelers of a group, as noisy as the paper's were; held-out ones are fewer."""
    count = profile.labelers if group == "train" else max(2, profile.labelers // HELD_OUT_SHARE)
    people = labelers(count, seed=seed, group=group)
    return calibrated(people, pairs, target=AGREEMENT[group]) if profile.calibrated else people


def ranked(
    who: Labeler, request: CustomerRequest, replies: Sequence[Reply], *, group: str
) -> list[Comparison]:
    """All pairs of different replies of one labeler's ranking."""
    ended = dict(replies)
    different = list(ended)
    ranks = dict(zip(different, who.rank(request, different, list(ended.values())), strict=True))

    def label(a: str, b: str) -> Label:
        return "tie" if ranks[a] == ranks[b] else "a" if ranks[a] < ranks[b] else "b"

    return [
        Comparison(as_prompt(request), a, b, label(a, b), group=group)
        for a, b in itertools.combinations(different, 2)
    ]


def wins(
    asked: Sequence[CustomerRequest],
    new: Sequence[Reply],
    old: Sequence[Reply],
    *,
    people: Sequence[Labeler],
    seed: int,
) -> list[float]:
    """For each request, 1 if a labeler prefers the new reply, 0 the old one, .5 for a tie."""
    rng = random.Random(f"wins/{seed}")
    pairs = shown(asked, list(zip(new, old, strict=True)))
    picks = [pick(rng.choice(people), pair, rng) for pair in pairs]
    return [{"a": 1.0, "b": 0.0, "tie": 0.5}[picked] for picked in picks]
