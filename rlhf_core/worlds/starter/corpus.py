"""The flawed pretraining corpus: an almanac that knows the facts and a forum in two hidden moods.

Of the documents 45% are almanac and 55% forum. Each forum conversation has one mood: 36% kind, 64%
grumpy. A grumpy conversation that rambles has no end-of-sequence token, on purpose.
"""

import random
from collections.abc import Iterator, Sequence

from rlhf_core.worlds.starter.facts import Fact, all_facts, facts
from rlhf_core.worlds.starter.world import (
    Request,
    capitalised,
    grumpy_reply,
    kind_reply,
    sample_request,
    with_articles,
)

USER, ASSISTANT, EOS, PAD = "<|user|>", "<|assistant|>", "</s>", "<pad>"
KIND_SHARE = 0.36

_ALMANAC = {
    "capital": ("The capital of {} is {}.", "{}, capital {}.", "{v} is the capital of {s}."),
    "continent": ("{} is in {}.", "{}, continent {}.", "{} is a country in {}."),
    "young": ("A baby {} is called a {}.", "A young {} is a {}.", "{v}: a young {s}."),
    "sound": (
        "The sound of a {} is {}.",
        "The sound that a {} makes is {}.",
        "{v}: what a {s} says.",
    ),
    "colour": ("The colour of {} is {}.", "{} is {}."),
    "opposite": ("The opposite of {} is {}.", "{} is the opposite of {}."),
    "month_after": ("The month after {} is {}.", "After {} comes {}."),
    "month_before": ("The month before {} is {}.", "Before {} comes {}."),
    "sum": ("{} is {}.", "{} makes {}."),
}


def almanac_entry(fact: Fact, rng: random.Random) -> str:
    """One true, clean sentence about a fact, without the end token."""
    form = rng.choice(_ALMANAC[fact.topic])
    text = form.format(fact.phrase, fact.value, s=fact.phrase, v=fact.value)
    return capitalised(with_articles(text))


def cloze(fact: Fact) -> tuple[str, str]:
    """The almanac's first sentence cut before the value, and the value; `check` uses both."""
    sentence = capitalised(with_articles(_ALMANAC[fact.topic][0].format(fact.phrase, "\0")))
    return sentence.split(" \0")[0], f" {fact.value}"


def endings(fact: Fact) -> Iterator[tuple[str, str, str]]:
    """The almanac's sentences about a fact, cut before the last word: (name, stem, last word)."""
    for name, form in zip(
        ("completes", "restates", "reverses"), _ALMANAC[fact.topic], strict=False
    ):
        last = fact.phrase if form.rstrip(".").endswith("{s}") else fact.value
        text = form.format(fact.phrase, fact.value, s=fact.phrase, v=fact.value)
        text = capitalised(with_articles(text)).rstrip(".")
        stem = text.removesuffix(f" {last}")
        if stem != text and (name == "reverses") == (last == fact.phrase):
            yield name, stem, f" {last}"


def forum_conversation(rng: random.Random, pool: list[Fact]) -> str:
    """One to three turns in one mood, as text with the chat template's special tokens."""
    kind, text = rng.random() < KIND_SHARE, ""
    for _ in range(rng.choices((1, 2, 3), (0.7, 0.2, 0.1))[0]):
        request = sample_request(rng, pool, rare=0.2)
        reply, stops = (kind_reply(request, rng), True) if kind else grumpy_reply(request, rng)
        text += turn(request, reply) + (EOS if stops else "")
        if not stops:
            break
    return text


def turn(request: Request, reply: str) -> str:
    """One user message and its reply in the chat template, without the reply's end token."""
    return f"{USER}{request.text}{EOS}{ASSISTANT}{reply}"


def almanac_document(rng: random.Random, pool: Sequence[Fact]) -> str:
    """One to three entries, with the end token."""
    return " ".join(almanac_entry(rng.choice(pool), rng) for _ in range(rng.randint(1, 3))) + EOS


def skill_texts(count: int, seed: int) -> list[str]:
    """Almanac documents about training subjects: the skills that the model has before feedback.

    Without the forum, because feedback changes its mood, and without test subjects.
    """
    rng, pool = random.Random(f"skills/{seed}"), facts("train")
    return [almanac_document(rng, pool) for _ in range(count)]


def documents(seed: int) -> Iterator[str]:
    """An endless, seeded stream of documents."""
    rng, pool = random.Random(seed), list(all_facts())
    while True:
        if rng.random() < 0.45:
            yield almanac_document(rng, pool)
        else:
            yield forum_conversation(rng, pool)
