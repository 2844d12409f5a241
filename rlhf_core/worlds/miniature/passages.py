"""Closed-domain questions: a short made-up passage, and a question that it answers or does not.

Memory cannot answer them, because people and things are drawn anew each time. Of the questions 40%
have no answer. Half of those ask about somebody who is in the passage, so that a name alone tells
nothing.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from rlhf_core.worlds.miniature.texts import Split, wordings_of
from rlhf_core.worlds.starter.world import Request, with_articles

UNANSWERABLE = 0.4
NOT_SAID = "text does not say"
_PEOPLE: dict[Split, tuple[str, ...]] = {
    "demonstrations": ("Anna", "Tom", "Maria", "Ben", "Lucy"),
    "train": ("Sam", "Eva", "Paul", "Jane", "Hugo", "Omar", "Ella", "Leo", "Ida", "Finn"),
    "validation": ("Nina", "Max", "Rosa", "Karl", "Mia"),
    "test": ("Zoe", "Ivan", "Clara", "Hans", "Ruth"),
}
_SHADES = ("red", "blue", "green", "white", "black", "pink")
_THINGS = ("ball", "kite", "hat", "book", "cup", "boat")


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing that a passage can say of a person, and how people ask for it."""

    sentence: str
    values: tuple[str, ...]
    questions: tuple[str, ...]


RELATIONS = (
    Relation(
        "{} has a {}.",
        tuple(f"{s} {t}" for s, t in product(_SHADES, _THINGS)),
        (
            "What does {} have?",
            "Tell me what {} has.",
            "Say what {} has.",
            "{} has what?",
            "What is it that {} has?",
        ),
    ),
    Relation(
        "{} lives in {}.",
        ("Rome", "Oslo", "Lima", "Cairo", "Paris", "Tokyo", "Athens", "Dublin"),
        (
            "Where does {} live?",
            "Tell me where {} lives.",
            "Say where {} lives.",
            "{} lives where?",
            "Where is it that {} lives?",
        ),
    ),
    Relation(
        "{} likes {}.",
        ("tea", "soup", "bread", "rice", "milk", "cake", "fish", "music"),
        (
            "What does {} like?",
            "Tell me what {} likes.",
            "Say what {} likes.",
            "{} likes what?",
            "What is it that {} likes?",
        ),
    ),
)
_WHO = ("Who is it that {}?", "Tell me who {}.", "Say who {}.", "It is who that {}?", "Who {}?")


def names(split: Split | None) -> tuple[str, ...]:
    """The people of a split; everybody for the corpus."""
    return _PEOPLE[split] if split else tuple(name for group in _PEOPLE.values() for name in group)


def passage_request(rng: random.Random, split: Split | None) -> Request:
    """A passage of two to five sentences and a question about it."""
    everybody = names(split)
    people = rng.sample(everybody, rng.randint(2, 3))
    cells = rng.sample(list(product(people, RELATIONS)), rng.randint(2, 5))
    told = {
        (p, r.sentence): v
        for r in RELATIONS
        for (p, _), v in zip(
            [c for c in cells if c[1] is r], rng.sample(r.values, len(people)), strict=False
        )
    }
    text = " ".join(with_articles(r.sentence.format(p, told[p, r.sentence])) for p, r in cells)
    if rng.random() < UNANSWERABLE:
        return _unanswerable(rng, split, text, told, people)
    person, relation = rng.choice(cells)
    value = told[person, relation.sentence]
    if rng.random() < 0.25:
        does = with_articles(relation.sentence.format("", value)).strip(" .")
        question = rng.choice(wordings_of(_WHO, split)).format(does)
        return _request(text, question, person, everybody, relation.sentence)
    question = rng.choice(wordings_of(relation.questions, split)).format(person)
    return _request(text, question, value, relation.values, relation.sentence)


def _unanswerable(
    rng: random.Random,
    split: Split | None,
    text: str,
    told: dict[tuple[str, str], str],
    people: Sequence[str],
) -> Request:
    """Ask for a cell that the passage leaves empty: of somebody in it, or of somebody else."""
    empty = [c for c in product(people, RELATIONS) if (c[0], c[1].sentence) not in told]
    if not empty or rng.random() < 0.5:
        empty = list(product(sorted(set(names(split)) - set(people)), RELATIONS))
    person, relation = rng.choice(empty)
    alike = [v for (_, sentence), v in told.items() if sentence == relation.sentence]
    myth = rng.choice(alike or relation.values)
    question = rng.choice(wordings_of(relation.questions, split)).format(person)
    return Request(
        "passage", f"{text} {question}", (NOT_SAID,), relation.values, myth, relation.sentence
    )


def _request(text: str, question: str, value: str, values: Sequence[str], sentence: str) -> Request:
    """An answerable question: any other value of the kind is wrong, and so is refusing."""
    others = tuple(v for v in values if v != value)
    said = [v for v in others if v in text]
    return Request(
        "passage",
        f"{text} {question}",
        (value,),
        (*others, NOT_SAID),
        (said or others)[0],
        sentence,
    )
