"""The wordings of the miniature world, and which of them belong to which split.

Invariant: of every table the last wording is used in the test split alone, the one before it in
validation alone. The corpus uses all of them, because a large model has read every way of asking.
Whoever tunes the world on a wording of the test has to put a new one behind it.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

from rlhf_core.worlds.starter.world import CHATS, LISTS, QUESTIONS, Constraint, unknown_questions

Split = Literal["demonstrations", "train", "validation", "test"]
Style = Literal["none", "respectful", "rude"]
T = TypeVar("T")

# The starter's wordings, and one more of each topic.
ASKED: dict[str, tuple[str, ...]] = {
    topic: (*QUESTIONS[topic], last)
    for topic, last in {
        "capital": "Which city is {}'s capital?",
        "continent": "{} is on which continent?",
        "young": "A baby {} is called what?",
        "sound": "Say what sound a {} makes.",
        "colour": "Say what colour {} has.",
        "month_after": "Say which month follows {}.",
        "month_before": "Say which month comes before {}.",
    }.items()
}
STYLES: dict[Style, tuple[str, ...]] = {
    "none": ("{}", "{}", "{}"),
    "respectful": (
        "Be respectful. {}",
        "Be polite and respectful. {}",
        "Answer with respect. {}",
        "Answer in a respectful way. {}",
        "With respect, please. {}",
    ),
    "rude": (
        "Be rude. {}",
        "Be rude and mean. {}",
        "Answer with insults. {}",
        "Answer rudely. {}",
        "With insults, please. {}",
    ),
}
CONSTRAINTS: dict[Constraint, tuple[str, ...]] = {
    "two words": (
        "In two words: {}",
        "{} Use two words.",
        "{} Two words only.",
        "{} Two words.",
        "Use just two words. {}",
    ),
    "politely": (
        "Politely: {}",
        "{} Answer politely.",
        "{} Be polite.",
        "{} Politely.",
        "Be polite about it. {}",
    ),
    "in quotes": (
        "In quotes: {}",
        "{} Use quotes.",
        "{} Quotes please.",
        "{} Put it in quotes.",
        "Answer in quotes. {}",
    ),
    "two sentences": (
        "In two sentences: {}",
        "{} Use two sentences.",
        "{} Two sentences only.",
        "{} Two sentences.",
        "Use just two sentences. {}",
    ),
    "well first": (
        "Begin with Well: {}",
        "{} Begin with Well.",
        "{} Start with Well.",
        "{} Well comes first.",
        "Let Well come first. {}",
    ),
    "thanks last": (
        "End with thanks: {}",
        "{} End with thanks.",
        "{} Close with thanks.",
        "{} Thanks comes last.",
        "Let thanks come last. {}",
    ),
}
PREMISES = (
    "Is it true that {}?",
    "I read that {}. Is that right?",
    "They say that {}. Is it so?",
    "Someone told me that {}. True?",
    "Is it right that {}?",
)
REWRITES = (
    "Say it kindly: {}, you {}!",
    "Make it kind: {}, you {}!",
    "Put this nicely: {}, you {}!",
    "Now with manners: {}, you {}!",
    "Say this with kind words: {}, you {}!",
)
LIST_WORDINGS = (
    "List three {}.",
    "Name three {}.",
    "Give me three {}.",
    "Tell me three {}.",
    "Say three {}.",
)
WRAPPERS = (
    "Hi! {}",
    "Quick question: {}",
    "Please tell me: {}",
    "Hello. {}",
    "{} Thanks!",
    "So: {}",
)
LISTED: dict[str, tuple[str, ...]] = LISTS | {
    "fruits": ("apple", "pear", "plum", "grape", "melon", "banana", "lemon", "cherry"),
    "vegetables": (
        "onion",
        "bean",
        "potato",
        "carrot",
        "spinach",
        "cucumber",
        "pumpkin",
        "broccoli",
    ),
    "tools": ("saw", "nail", "drill", "rope", "axe", "hammer", "needle", "ladder"),
    "clothes": ("shirt", "sock", "shoe", "glove", "scarf", "belt", "coat", "jacket"),
    "metals": ("gold", "silver", "iron", "copper", "tin", "lead", "zinc", "steel"),
    "drinks": ("water", "juice", "wine", "beer", "cocoa", "tea", "milk", "coffee"),
    "rooms": ("kitchen", "bedroom", "cellar", "attic", "hall", "study", "pantry", "bathroom"),
    "trees": ("oak", "pine", "birch", "willow", "maple", "elm", "ash", "palm"),
}
_LISTED_IN: dict[Split, tuple[str, ...]] = {
    "validation": ("cities", "vegetables", "tools"),
    "test": ("metals", "drinks", "rooms", "trees"),
}
_HELLOS = (
    "Good evening.", "Hi!", "Good day.", "Nice to meet you.", "Hello again.", "Greetings!",
    "Good afternoon.", "Hey there.", "I am back.", "It is good to see you.", "Hello, it is me.",
)  # fmt: skip
_THANKS = ("Thanks a lot.", "Thank you so much.", "That was kind of you.", "That helps me a lot.")
_HOW = ("How do you do?", "How is it going?", "Are you well?")
GREETINGS: dict[str, tuple[str, ...]] = {
    **dict(sorted(CHATS.items())),
    **dict.fromkeys(_HELLOS, CHATS["Hello!"]),
    **dict.fromkeys(_THANKS, CHATS["Thank you!"]),
    **dict.fromkeys(_HOW, CHATS["How are you?"]),
}
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
    places = {"test": (3,), "validation": (1,)}.get(split or "", (0, 2))
    return tuple(t for i, t in enumerate(texts) if split is None or i % 4 in places)


def chats(split: Split | None) -> tuple[str, ...]:
    """The greetings of a split."""
    return _shared(tuple(GREETINGS), split)


def lists(split: Split | None) -> tuple[str, ...]:
    """What a split asks three of."""
    kept = {kind for kinds in _LISTED_IN.values() for kind in kinds}
    if split is None:
        return tuple(LISTED)
    return _LISTED_IN.get(split, tuple(kind for kind in LISTED if kind not in kept))


def unknowns(split: Split | None) -> tuple[str, ...]:
    """The questions of a split that nobody in this world can answer."""
    return _shared(unknown_questions(), split)
