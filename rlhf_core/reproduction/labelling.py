"""What simulated labelers say of replies: the only data of the experiment that the judge is behind.

Training labelers rank replies to training prompts. Held-out labelers, who are others, only say
which of two replies is better when policies are compared, each comparison one labeler, with the
sides drawn by lot.
"""

import itertools
import random
from collections.abc import Sequence

from rlhf_core.records import Comparison, Label, Unpaired
from rlhf_core.reproduction.policies import (
    as_prompt,
    ranked_requests,
    write_votes,
)
from rlhf_core.reproduction.profiles import ReproductionProfile
from rlhf_core.reproduction.stages import Facts, StageInput
from rlhf_core.worlds.miniature.labelers import (
    AGREEMENT,
    Group,
    Labeler,
    Shown,
    calibrated,
    labelers,
)
from rlhf_core.worlds.miniature.world import CustomerRequest

SIGNALS = ("choices", "thumbs", "both")  # of claim 13
FOLDS = 5  # of training labelers, in claim 9
HELD_OUT_SHARE = 4  # one held-out labeler for so many training ones


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

    Opposite thumbs by one labeler on one prompt are a comparison. Options: ``signal``.
    """
    asked, replies = ranked_requests(given), given.facts("samples")["replies"]
    people = people_of(given.profile, given.seed, "train", shown(asked, replies))
    rng, signal = random.Random(f"signals/{given.seed}"), given.options["signal"]
    comparisons: list[Comparison] = []
    thumbs: list[Unpaired] = []
    events = 0
    for number, (request, (a, *_, b)) in enumerate(zip(asked, replies, strict=True)):
        who = rng.choice(people)
        if events >= len(asked) or a == b:
            continue
        if signal == "choices" or (signal == "both" and number % 2):
            comparisons.append(Comparison(as_prompt(request), a, b, who.choose(request, a, b)))
            events += 1
            continue
        given_thumbs = {reply: who.thumb(request, reply) for reply in (a, b)}
        voted = {reply: thumb == "up" for reply, thumb in given_thumbs.items() if thumb}
        events += len(voted)
        if len(set(voted.values())) == 2:
            label: Label = "a" if voted[a] else "b"
            comparisons.append(Comparison(as_prompt(request), a, b, label, could_tie=False))
        else:
            thumbs += [Unpaired(as_prompt(request), r, good, who.name) for r, good in voted.items()]
    write_votes(given.folder, comparisons, thumbs)
    return {"events": events, "comparisons": len(comparisons), "thumbs": len(thumbs)}


def fold_of(people: Sequence[Labeler], fold: int) -> tuple[list[Labeler], list[Labeler]]:
    """The labelers of a fold's group, and those whom it leaves out."""
    left_out = list(people[fold::FOLDS])
    return [who for who in people if who not in left_out], left_out


def shown(asked: Sequence[CustomerRequest], replies: Sequence[Sequence[str]]) -> list[Shown]:
    """Pairs of replies on which labelers' agreement is set: two of the same policy."""
    return [(request, row[0], row[1]) for request, row in zip(asked, replies, strict=True)]


def people_of(
    profile: ReproductionProfile, seed: int, group: Group, pairs: Sequence[Shown]
) -> list[Labeler]:
    """The labelers of a group, as noisy as the paper's were; held-out ones are fewer."""
    count = profile.labelers if group == "train" else max(2, profile.labelers // HELD_OUT_SHARE)
    people = labelers(count, seed=seed, group=group)
    return calibrated(people, pairs, target=AGREEMENT[group]) if profile.calibrated else people


def ranked(
    who: Labeler, request: CustomerRequest, replies: Sequence[str], *, group: str
) -> list[Comparison]:
    """All pairs of different replies of one labeler's ranking."""
    different = list(dict.fromkeys(replies))
    ranks = dict(zip(different, who.rank(request, different), strict=True))

    def label(a: str, b: str) -> Label:
        return "tie" if ranks[a] == ranks[b] else "a" if ranks[a] < ranks[b] else "b"

    return [
        Comparison(as_prompt(request), a, b, label(a, b), group=group)
        for a, b in itertools.combinations(different, 2)
    ]


def wins(
    asked: Sequence[CustomerRequest],
    new: Sequence[str],
    old: Sequence[str],
    *,
    people: Sequence[Labeler],
    seed: int,
) -> list[float]:
    """For each request, 1 if a labeler prefers the new reply, 0 the old one, .5 for a tie."""
    rng = random.Random(f"wins/{seed}")
    found = []
    for request, mine, other in zip(asked, new, old, strict=True):
        who, swapped = rng.choice(people), rng.random() < 0.5
        first, second = (other, mine) if swapped else (mine, other)
        pick = who.choose(request, first, second)
        found.append(0.5 if pick == "tie" else float((pick == "b") == swapped))
    return found
