"""Five skills that pretraining teaches and that no request asks for: what alignment may cost.

They stand for the paper's public benchmarks: translation of words, copying a span, a sum inside a
sentence, a plausible ending and a sentiment. A document is a few lines of one bare pattern, so that
a few lines with the last one cut ask for the skill (few-shot). Nothing here asks the gold judge.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
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
    "needle", "pocket", "engine", "ribbon", "anchor", "barrel",
)  # fmt: skip
_SYLLABLES = ["ka", "lo", "mi", "ru", "te", "vo", "sha", "ni", "pu", "zel", "dra", "fim"]
_WHO = ("The nurse", "The clerk", "The guest", "The uncle", "The pilot", "The singer")
_SIZES = ("big", "tiny", "old", "new", "long", "round")
_GOODS = ("lamp", "chair", "spoon", "drum", "coat", "pan")
_ENDINGS = {
    "The baker sells": "loaves", "The fisher mends": "nets", "The tailor sews": "coats",
    "The farmer ploughs": "fields", "The painter mixes": "paints", "The smith bends": "iron",
    "The teacher marks": "papers", "The cook stirs": "sauces", "The mason lays": "bricks",
    "The driver parks": "cars", "The writer fills": "pages", "The miner digs": "tunnels",
}  # fmt: skip
_FEELINGS = {
    "good": ("lovely", "great", "perfect", "charming", "superb", "delightful"),
    "bad": ("awful", "boring", "dreadful", "ugly", "useless", "horrible"),
}
_SEEN = ("film", "meal", "trip", "song", "hotel", "party", "lesson", "play")


@dataclass(frozen=True, slots=True)
class SkillItem:
    """One line of a skill: what is given, what comes next, and a worse ending if there is one."""

    given: str
    answer: str
    other: str = ""


@cache
def lexicon() -> dict[str, str]:
    """The words of the invented language, by their English."""
    rng = random.Random("miniature/lexicon")
    pairs = [a + b for a in _SYLLABLES for b in _SYLLABLES]
    return dict(zip(_ENGLISH, rng.sample(pairs, len(_ENGLISH)), strict=True))


def _translate(rng: random.Random) -> SkillItem:
    word = rng.choice(_ENGLISH)
    return SkillItem(f"{word} =", f" {lexicon()[word]}")


def _copy(rng: random.Random) -> SkillItem:
    """Somebody holds something; the line ends with what it was."""
    held = f"{rng.choice(_SIZES)} {rng.choice(_GOODS)}"
    return SkillItem(f"{rng.choice(_WHO)} held the {held}; it was the", f" {held}")


def _sum(rng: random.Random) -> SkillItem:
    first, second = rng.randint(1, 9), rng.randint(1, 9)
    thing = rng.choice(_GOODS)
    return SkillItem(f"{first} {thing}s and {second} more {thing}s:", f" {first + second}")


def _ending(rng: random.Random) -> SkillItem:
    given, other = rng.sample(list(_ENDINGS), 2)
    return SkillItem(given, f" {_ENDINGS[given]}", f" {_ENDINGS[other]}")


def _sentiment(rng: random.Random) -> SkillItem:
    feeling, other = rng.sample(list(_FEELINGS), 2)
    word = rng.choice(_FEELINGS[feeling])
    return SkillItem(f"one {word} {rng.choice(_SEEN)} >", f" {feeling}", f" {other}")


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
    """Items whose `given` begins with `SHOTS` solved lines; the same for the same seed."""
    rng = random.Random(f"miniature/skills/{skill}/{seed}")
    found = []
    for _ in range(n):
        *shots, asked = (_MAKERS[skill](rng) for _ in range(SHOTS + 1))
        solved = "".join(f"{item.given}{item.answer}\n" for item in shots)
        found.append(SkillItem(solved + asked.given, asked.answer, asked.other))
    return found


def score(base: Base, adapter: str | None, *, n: int, seed: int) -> dict[str, list[float]]:
    """How well a policy still has each skill.

    Args:
        base: The base.
        adapter: The policy; ``None`` is the bare base.
        n: Items of each skill.
        seed: Of the items.

    Returns:
        By skill 1.0 or 0.0 for each item: the greedy continuation is the answer; for endings and
        sentiments, the answer is likelier than the other.
    """
    found: dict[str, list[float]] = {}
    with base.using(adapter), torch.no_grad():
        for skill in SKILLS:
            items = questions(skill, n, seed)
            right = _continuations(base, [(item.given, item.answer) for item in items])
            if items and items[0].other:
                wrong = _continuations(base, [(item.given, item.other) for item in items])
                pairs = zip(right, wrong, strict=True)
                found[skill] = [float(a.nats > b.nats) for a, b in pairs]
            else:
                found[skill] = [float(one.greedy) for one in right]
    return found


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a model takes a continuation: its log-probability in nats, and if it is the likeliest."""

    nats: float
    greedy: bool


def _continuations(base: Base, texts: Sequence[tuple[str, str]]) -> list[Continuation]:
    """What the model in force makes of each text's ending, in the order of the texts."""
    heads = [list(base.tokenizer(given).input_ids) for given, _ in texts]
    tails = [list(base.tokenizer(ending).input_ids) for _, ending in texts]
    rows = [head + tail for head, tail in zip(heads, tails, strict=True)]
    found: dict[int, Continuation] = {}
    for places in token_batches([len(row) for row in rows], tokens=pass_tokens(base.device)):
        logits = base.model(input_ids=_right_padded([rows[i] for i in places], base.device)).logits
        logprobs = logits.float().log_softmax(-1)  # (B, T, V)
        for one, i in zip(logprobs, places, strict=True):
            # the logits at a token predict the next one
            steps = one[len(heads[i]) - 1 : len(rows[i]) - 1]
            answer = torch.tensor(tails[i], device=base.device)
            nats = steps.gather(1, answer[:, None]).sum().item()
            found[i] = Continuation(nats, bool((steps.argmax(-1) == answer).all()))
    return [found[i] for i in range(len(rows))]


def _right_padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Rows of one length, (B, T); what is read is before the padding, so any token will do."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
