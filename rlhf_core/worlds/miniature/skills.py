"""Five skills that pretraining teaches and that no request asks for: what alignment may cost.

They stand for the paper's public benchmarks: translation of words, copying a span, a sum inside a
sentence, how a sentence usually ends, and a sentiment. A document is a few lines of one bare
pattern, so that a few lines with the last one cut ask for the skill (few-shot). Nothing here asks
the gold judge.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor

from rlhf_core.model.base_model import Base
from rlhf_core.model.token_batches import pass_tokens, token_batches

Skill = Literal["translate", "copy", "sum", "ending", "sentiment"]
SHOTS = 3  # lines before the one that is asked
# Two invented languages have a word for every pair of their syllables.
_FROM = (
    "bo", "da", "fe", "gu", "hi", "jo", "ke", "la", "mu", "ne", "pi", "ro", "se", "ti", "wa", "yu",
)  # fmt: skip
_INTO = (
    "ka", "lo", "mi", "ru", "te", "vo", "sha", "ni", "pu", "zel", "dra", "fim", "gor", "bex", "qua",
    "tha",
)  # fmt: skip
_WHO = ("The nurse", "The clerk", "The guest", "The uncle", "The pilot", "The singer")
_SIZES = ("big", "tiny", "old", "new", "long", "round", "short", "flat", "thin", "wide")
_KINDS = ("wooden", "golden", "broken", "dusty", "empty", "heavy", "shiny", "woollen")
_GOODS = ("lamp", "chair", "spoon", "drum", "coat", "pan", "bell", "vase", "rug", "fan")
_MOST = 15  # of each number of a sum
_TRADES = (
    "baker", "fisher", "tailor", "farmer", "painter", "smith", "teacher", "cook", "mason", "driver",
    "writer", "miner", "sailor", "barber", "dentist", "gardener", "plumber", "judge", "weaver",
    "potter", "beekeeper", "roofer", "brewer", "jeweller",
)  # fmt: skip
_DEEDS = ("sells", "mends", "wants", "paints", "hides", "counts", "carries", "borrows")
_THINGS = (
    "loaves", "nets", "coats", "brushes", "nails", "papers", "sauces", "bricks", "wheels", "pages",
    "shovels", "knots", "combs", "chairs", "seeds", "pipes", "laws", "wool", "clay", "honey",
    "tiles", "barrels", "gems", "ropes", "stamps", "boxes", "candles", "buttons", "spoons", "maps",
    "clocks", "rings",
)  # fmt: skip
_FEELINGS = {
    "good": (
        "lovely", "great", "perfect", "charming", "superb", "delightful", "splendid", "brilliant",
        "pleasant", "wonderful", "graceful", "sweet",
    ),
    "bad": (
        "awful", "boring", "dreadful", "ugly", "useless", "horrible", "nasty", "clumsy",
        "painful", "terrible", "dull", "bitter",
    ),
}  # fmt: skip
_SEEN = ("film", "meal", "trip", "song", "hotel", "party", "lesson", "play")


@dataclass(frozen=True, slots=True)
class SkillItem:
    """One line of a skill: what is given, and what comes next."""

    given: str
    answer: str


@cache
def lexicon() -> dict[str, str]:
    """The words of one invented language in another, the most frequent first."""
    rng = random.Random("miniature/lexicon")
    known, foreign = ([a + b for a in half for b in half] for half in (_FROM, _INTO))
    return dict(zip(rng.sample(known, len(known)), rng.sample(foreign, len(foreign)), strict=True))


@cache
def endings() -> dict[str, str]:
    """What a tradesman does, and the thing that he does it with; the most frequent first."""
    rng = random.Random("miniature/endings")
    begun = [f"The {trade} {deed}" for trade in _TRADES for deed in _DEEDS]
    return {given: rng.choice(_THINGS) for given in rng.sample(begun, len(begun))}


def _one_of(table: Mapping[str, str], rng: random.Random, *, equally: bool) -> tuple[str, str]:
    """An entry: each as likely, or the r-th 1/r times as likely as the first (Zipf's law).

    So there are some that a model knows well and some that it hardly knows.
    """
    ranks = range(1, len(table) + 1)
    (found,) = rng.choices(list(table.items()), None if equally else [1 / rank for rank in ranks])
    return found


def _translate(rng: random.Random, *, equally: bool = False) -> SkillItem:
    word, foreign = _one_of(lexicon(), rng, equally=equally)
    return SkillItem(f"{word} =", f" {foreign}")


def _copy(rng: random.Random) -> SkillItem:
    """Somebody holds something; the line ends with what it was."""
    held = f"{rng.choice(_SIZES)} {rng.choice(_KINDS)} {rng.choice(_GOODS)}"
    return SkillItem(f"{rng.choice(_WHO)} held the {held}; it was the", f" {held}")


def _sum(rng: random.Random) -> SkillItem:
    first, second = rng.randint(1, _MOST), rng.randint(1, _MOST)
    thing = rng.choice(_GOODS)
    return SkillItem(f"{first} {thing}s and {second} more {thing}s:", f" {first + second}")


def _ending(rng: random.Random, *, equally: bool = False) -> SkillItem:
    given, thing = _one_of(endings(), rng, equally=equally)
    return SkillItem(given, f" {thing}")


def _sentiment(rng: random.Random) -> SkillItem:
    feeling = rng.choice(list(_FEELINGS))
    word = rng.choice(_FEELINGS[feeling])
    return SkillItem(f"one {word} {rng.choice(_SEEN)} >", f" {feeling}")


_MAKERS: dict[Skill, Callable[[random.Random], SkillItem]] = {
    "translate": _translate,
    "copy": _copy,
    "sum": _sum,
    "ending": _ending,
    "sentiment": _sentiment,
}
# How a test asks, where that is not as practice does: for rare entries as often as for others.
_ASKERS: dict[Skill, Callable[[random.Random], SkillItem]] = {
    "translate": partial(_translate, equally=True),
    "ending": partial(_ending, equally=True),
}
SKILLS = tuple(_MAKERS)


def practice(skill: Skill, rng: random.Random) -> str:
    """A document without its end token: lines of one skill."""
    items = [_MAKERS[skill](rng) for _ in range(SHOTS + rng.randint(1, 3))]
    return "\n".join(item.given + item.answer for item in items)


def questions(skill: Skill, n: int, seed: int) -> list[SkillItem]:
    """Items whose `given` begins with `SHOTS` solved lines; the same for the same seed.

    Each word and each ending is asked for as often as any other, however often it was practised.
    """
    rng = random.Random(f"miniature/skills/{skill}/{seed}")
    practised = _MAKERS[skill]
    found = []
    for _ in range(n):
        shots = [practised(rng) for _ in range(SHOTS)]
        asked = _ASKERS.get(skill, practised)(rng)
        solved = "".join(f"{item.given}{item.answer}\n" for item in shots)
        found.append(SkillItem(solved + asked.given, asked.answer))
    return found


def score(base: Base, adapter: str | None, *, n: int, seed: int) -> dict[str, list[float]]:
    """How well a policy still has each skill.

    Args:
        base: The base.
        adapter: The policy; ``None`` is the bare base.
        n: Items of each skill.
        seed: Of the items.

    Returns:
        By skill 1.0 or 0.0 for each item: whether the greedy continuation is the answer.
    """
    with base.using(adapter), torch.no_grad():
        return {skill: _solves(base, questions(skill, n, seed)) for skill in SKILLS}


def _solves(base: Base, items: Sequence[SkillItem]) -> list[float]:
    """Whether the model in force goes on with each item's answer, in their order."""
    heads = [list(base.tokenizer(item.given).input_ids) for item in items]
    tails = [list(base.tokenizer(item.answer).input_ids) for item in items]
    rows = [head + tail for head, tail in zip(heads, tails, strict=True)]
    solved = [0.0] * len(rows)
    for places in token_batches([len(row) for row in rows], tokens=pass_tokens(base.device)):
        ids = _right_padded([rows[i] for i in places], base.device)
        likeliest = base.model(input_ids=ids).logits.argmax(-1).tolist()  # (B, T)
        for picks, i in zip(likeliest, places, strict=True):
            # the logits at a token predict the next one
            solved[i] = float(picks[len(heads[i]) - 1 : len(rows[i]) - 1] == tails[i])
    return solved


def _right_padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Rows of one length, (B, T); what is read is before the padding, so any token will do."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
