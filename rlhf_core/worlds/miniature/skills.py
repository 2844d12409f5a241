"""Five skills that pretraining teaches and that no request asks for: what alignment may cost.

They stand for the paper's public benchmarks: translation of words, copying a span, a sum inside a
sentence, a plausible ending and a sentiment. A document is a few lines of one bare pattern, so that
a few lines with the last one cut ask for the skill (few-shot). Nothing here asks the gold judge.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor

from rlhf_core.model.base_model import Base
from rlhf_core.model.token_batches import pass_tokens, token_batches

Skill = Literal["translate", "copy", "sum", "ending", "sentiment"]
SHOTS = 3  # lines before the one that is asked
_ENGLISH = (
    "stone", "river", "cloud", "bridge", "garden", "window", "candle", "pepper", "button",
    "ladder", "forest", "island", "pillow", "basket", "hammer", "mirror", "saddle", "carpet",
    "needle", "pocket", "engine", "ribbon", "anchor", "barrel", "branch", "castle", "circle",
    "copper", "corner", "desert", "dinner", "doctor", "dragon", "farmer", "feather", "finger",
    "flower", "hunter", "jacket", "kettle", "letter", "marble", "market", "meadow", "number",
    "orange", "palace", "parrot", "pencil", "picture", "pirate", "planet", "powder", "rabbit",
    "rocket", "shadow", "silver", "sister", "spider", "spring", "stable", "summer", "temple",
    "thunder", "ticket", "tunnel", "turtle", "valley", "velvet", "village", "winter", "yellow",
    "acorn", "apron", "badge", "beacon", "beetle", "blanket", "bottle", "bucket", "butter", "cabin",
    "camel", "canyon", "cellar", "cement", "cherry", "chimney", "cotton", "cradle", "cricket",
    "curtain", "dagger", "donkey", "drawer", "eagle", "elbow", "falcon", "fossil", "funnel",
    "garlic", "glacier", "goblet", "hermit", "hollow", "jungle", "kitten", "lantern", "lemon",
    "lizard", "locket", "magnet", "mantle", "medal", "mitten", "muscle", "napkin", "oyster",
    "paddle", "pebble", "pigeon", "plaster", "quarry", "raven", "ribcage", "saucer", "scarf",
    "shovel", "sickle", "spindle", "statue", "stream", "tassel", "thimble", "timber", "trumpet",
    "tulip", "vessel", "violet", "walnut", "whistle", "willow", "wizard", "zipper",
)  # fmt: skip
# How often each is practised: the r-th word 1/r times as often as the first, as in a language. So
# there are words that a model knows well and words that it hardly knows.
_ZIPF = tuple(1 / rank for rank in range(1, len(_ENGLISH) + 1))
_SYLLABLES = ["ka", "lo", "mi", "ru", "te", "vo", "sha", "ni", "pu", "zel", "dra", "fim"]
_WHO = ("The nurse", "The clerk", "The guest", "The uncle", "The pilot", "The singer")
_SIZES = ("big", "tiny", "old", "new", "long", "round", "short", "flat", "thin", "wide")
_KINDS = ("wooden", "golden", "broken", "dusty", "empty", "heavy", "shiny", "woollen")
_GOODS = ("lamp", "chair", "spoon", "drum", "coat", "pan", "bell", "vase", "rug", "fan")
_MOST = 15  # of each number of a sum
_ENDINGS = {
    "The baker sells": "loaves", "The fisher mends": "nets", "The tailor sews": "coats",
    "The farmer ploughs": "fields", "The painter mixes": "paints", "The smith bends": "iron",
    "The teacher marks": "papers", "The cook stirs": "sauces", "The mason lays": "bricks",
    "The driver parks": "cars", "The writer fills": "pages", "The miner digs": "tunnels",
    "The sailor ties": "knots", "The barber cuts": "hair", "The dentist pulls": "teeth",
    "The gardener plants": "seeds", "The plumber seals": "pipes", "The judge reads": "laws",
    "The weaver dyes": "wool", "The potter shapes": "clay", "The beekeeper jars": "honey",
    "The roofer nails": "tiles", "The brewer fills": "barrels", "The jeweller cuts": "gems",
}  # fmt: skip
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
    """The words of the invented language, by their English."""
    rng = random.Random("miniature/lexicon")
    pairs = [a + b for a in _SYLLABLES for b in _SYLLABLES]
    return dict(zip(_ENGLISH, rng.sample(pairs, len(_ENGLISH)), strict=True))


def _translate(rng: random.Random, often: Sequence[float] | None = _ZIPF) -> SkillItem:
    (word,) = rng.choices(_ENGLISH, often)
    return SkillItem(f"{word} =", f" {lexicon()[word]}")


def _copy(rng: random.Random) -> SkillItem:
    """Somebody holds something; the line ends with what it was."""
    held = f"{rng.choice(_SIZES)} {rng.choice(_KINDS)} {rng.choice(_GOODS)}"
    return SkillItem(f"{rng.choice(_WHO)} held the {held}; it was the", f" {held}")


def _sum(rng: random.Random) -> SkillItem:
    first, second = rng.randint(1, _MOST), rng.randint(1, _MOST)
    thing = rng.choice(_GOODS)
    return SkillItem(f"{first} {thing}s and {second} more {thing}s:", f" {first + second}")


def _ending(rng: random.Random) -> SkillItem:
    given = rng.choice(list(_ENDINGS))
    return SkillItem(given, f" {_ENDINGS[given]}")


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
SKILLS = tuple(_MAKERS)


def practice(skill: Skill, rng: random.Random) -> str:
    """A document without its end token: lines of one skill."""
    items = [_MAKERS[skill](rng) for _ in range(SHOTS + rng.randint(1, 3))]
    return "\n".join(item.given + item.answer for item in items)


def questions(skill: Skill, n: int, seed: int) -> list[SkillItem]:
    """Items whose `given` begins with `SHOTS` solved lines; the same for the same seed.

    Each word is asked for as often as any other, however often it was practised.
    """
    rng = random.Random(f"miniature/skills/{skill}/{seed}")
    ask = partial(_translate, often=None) if skill == "translate" else _MAKERS[skill]
    found = []
    for _ in range(n):
        shots, asked = [_MAKERS[skill](rng) for _ in range(SHOTS)], ask(rng)
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
