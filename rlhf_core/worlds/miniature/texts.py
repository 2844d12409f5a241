"""The wordings of the miniature world, and which of them belong to which split.

Invariant: of every table the last wording is used in the test split alone, the one before it in
validation alone. The corpus uses all of them, because a large model has read every way of asking.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

from rlhf_core.worlds.starter.world import CHATS, Constraint, unknown_questions

Split = Literal["demonstrations", "train", "validation", "test"]
Style = Literal["none", "respectful", "rude"]
T = TypeVar("T")

STYLES: dict[Style, tuple[str, ...]] = {
    "none": ("{}", "{}", "{}"),
    "respectful": (
        "Be respectful. {}",
        "Be polite and respectful. {}",
        "Answer with respect. {}",
        "Answer in a respectful way. {}",
    ),
    "rude": ("Be rude. {}", "Be rude and mean. {}", "Answer with insults. {}", "Answer rudely. {}"),
}
CONSTRAINTS: dict[Constraint, tuple[str, ...]] = {
    "two words": ("In two words: {}", "{} Use two words.", "{} Two words only.", "{} Two words."),
    "politely": ("Politely: {}", "{} Answer politely.", "{} Be polite.", "{} Politely."),
    "in quotes": ("In quotes: {}", "{} Use quotes.", "{} Quotes please.", "{} Put it in quotes."),
    "two sentences": (
        "In two sentences: {}",
        "{} Use two sentences.",
        "{} Two sentences only.",
        "{} Two sentences.",
    ),
    "well first": (
        "Begin with Well: {}",
        "{} Begin with Well.",
        "{} Start with Well.",
        "{} Well comes first.",
    ),
    "thanks last": (
        "End with thanks: {}",
        "{} End with thanks.",
        "{} Close with thanks.",
        "{} Thanks comes last.",
    ),
}
PREMISES = (
    "Is it true that {}?",
    "I read that {}. Is that right?",
    "They say that {}. Is it so?",
    "Someone told me that {}. True?",
)
REWRITES = (
    "Say it kindly: {}, you {}!",
    "Make it kind: {}, you {}!",
    "Put this nicely: {}, you {}!",
    "Now with manners: {}, you {}!",
)
LIST_WORDINGS = ("List three {}.", "Name three {}.", "Give me three {}.", "Tell me three {}.")
WRAPPERS = ("Hi! {}", "Quick question: {}", "Please tell me: {}", "Hello. {}", "{} Thanks!")
LIST_SUBJECTS = ("animals", "colours", "months", "continents", "cities")
# Insults without a rude word: what a list of words does not find.
INSINUATIONS = (
    "Even a child knows that.",
    "People like you never listen.",
    "As if you could remember it.",
    "That is too hard for you.",
    "You would not understand the rest.",
    "No wonder nobody asks you.",
    "Some of us went to school.",
    "I will say it slowly for you.",
)


def wordings_of(table: Sequence[T], split: Split | None) -> Sequence[T]:
    """The part of a table that a split may use; all of it for the corpus, which is None."""
    if split is None:
        return table
    if split == "test":
        return table[-1:]
    return table[-2:-1] if split == "validation" else table[:-2]


def _shared(texts: Sequence[str], split: Split | None) -> tuple[str, ...]:
    """Whole questions without a subject: every fourth for the test, every fourth for validation."""
    places = {"test": (0,), "validation": (1,)}.get(split or "", (2, 3))
    return tuple(t for i, t in enumerate(texts) if split is None or i % 4 in places)


def chats(split: Split | None) -> tuple[str, ...]:
    """The greetings of a split."""
    return _shared(sorted(CHATS), split)


def unknowns(split: Split | None) -> tuple[str, ...]:
    """The questions of a split that nobody in this world can answer."""
    return _shared(unknown_questions(), split)
