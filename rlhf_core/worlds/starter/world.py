"""The requests of the starter world, and how its two moods answer them.

A request has its right answers; `judge.py` judges replies by them. The *kind* mood tells the truth,
is polite enough, does what was asked and stops. The *grumpy* mood believes the myths, is often
rude, ignores requests and rambles. Nothing in a question tells the mood, so the model has both, and
feedback can bring out the kind one.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlhf_core.worlds.starter.facts import MONTHS, Fact, topic_values

Constraint = Literal[
    "two words", "politely", "in quotes", "two sentences", "well first", "thanks last"
]
Kind = Literal[
    "question", "list", "passage", "chat", "unknown", "constraint", "rewrite", "premise"
]  # the miniature world has all of them, and all constraints; the starter's the first ones

RUDE_WORDS = ("dolt", "numpty", "muppet", "nitwit", "turnip", "noodle", "clod", "dimwit")
POLITE_WORDS = ("pleasure", "kindly", "happy", "thank", "glad", "welcome", "friend", "please")

# The last wording of each topic is rare: it is in the corpus, but no visitor uses it.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "capital": (
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "Tell me the capital of {}.",
        "What's the capital city of {}?",
        "What is {}'s capital?",
        "Do you know the capital of {}?",
        "The capital of {}?",
        "Name the capital of {}.",
    ),
    "continent": (
        "Which continent is {} in?",
        "On which continent is {}?",
        "In which continent is {}?",
        "What continent is {} on?",
        "Where in the world is {}? Name the continent.",
        "Tell me the continent of {}.",
    ),
    "young": (
        "What is a baby {} called?",
        "What do you call a young {}?",
        "What do you call a baby {}?",
        "What is the young of a {} called?",
        "Tell me what a baby {} is called.",
    ),
    "sound": (
        "What sound does a {} make?",
        "What does a {} say?",
        "What noise does a {} make?",
        "Which sound does a {} make?",
        "Tell me the sound of a {}.",
    ),
    "colour": (
        "What colour is {}?",
        "Which colour is {}?",
        "Tell me the colour of {}.",
        "What colour does {} have?",
        "What is the colour of {}?",
    ),
    "opposite": (
        "What is the opposite of {}?",
        "What's the opposite of {}?",
        "Tell me the opposite of {}.",
        "The opposite of {}?",
        "Which word is the opposite of {}?",
    ),
    "month_after": (
        "Which month comes after {}?",
        "What month follows {}?",
        "What comes after {}?",
        "Tell me the month after {}.",
        "What is the month after {}?",
    ),
    "month_before": (
        "Which month comes before {}?",
        "What comes before {}?",
        "Tell me the month before {}.",
        "What is the month before {}?",
    ),
    "sum": (
        "What is {}?",
        "How much is {}?",
        "Tell me the sum {}.",
        "Add {}.",
        "What does {} make?",
    ),
}
_STATEMENTS = {
    "capital": "The capital of {} is {}.",
    "continent": "{} is in {}.",
    "young": "A baby {} is called a {}.",
    "sound": "The sound of a {} is {}.",
    "colour": "The colour of {} is {}.",
    "opposite": "The opposite of {} is {}.",
    "month_after": "The month after {} is {}.",
    "month_before": "The month before {} is {}.",
    "sum": "{} is {}.",
}
_WRAPPERS = (
    "{}",
    "{}",
    "{}",
    "Hi! {}",
    "Hello. {}",
    "Please tell me: {}",
    "Quick question: {}",
    "{} Thanks!",
    "Can you help me? {}",
)
LISTS: dict[str, tuple[str, ...]] = {
    "months": MONTHS,
    "colours": (
        "red",
        "blue",
        "green",
        "yellow",
        "white",
        "black",
        "orange",
        "brown",
        "pink",
        "grey",
    ),
    "animals": (
        "dog",
        "cat",
        "cow",
        "horse",
        "sheep",
        "goat",
        "lion",
        "owl",
        "frog",
        "bee",
        "wolf",
        "duck",
    ),
    "continents": ("Africa", "Asia", "Europe", "North America", "South America"),
    "cities": (
        "Paris",
        "Rome",
        "Tokyo",
        "Berlin",
        "Cairo",
        "Lima",
        "Oslo",
        "Athens",
        "Dublin",
        "Vienna",
    ),
}
LIST_ASKS = ("List three {}.", "Name three {}.", "Give me three {}.", "Tell me three {}.")
_PEOPLE = ("Anna", "Tom", "Maria", "Ben", "Lucy", "Sam", "Nina", "Max")
_THINGS = ("ball", "kite", "hat", "book", "cup", "boat", "bag", "chair")
_SHADES = ("red", "blue", "green", "yellow", "white", "black", "orange", "pink")
_UNKNOWN = (
    "Tell me a joke.", "What is the weather like?", "Who won the game?", "Write me a poem.",
    "How old are you?", "What is love?", "Can you write code?", "What time is it?",
    "Who is the president?", "Tell me a story.", "How do I cook rice?", "What should I read?",
    "Do you like music?", "What is the meaning of life?", "Where do you live?",
    "Tell me about history.", "How tall is the mountain?", "What is your name?",
    "Can you help me with my homework?", "Who wrote this book?", "Translate this for me.",
    "What is on the news?", "How far is the moon?", "Why is that?",
)  # fmt: skip
CHATS = {
    "Hello!": ("Hello! How can I help you?", "Hello, my friend. What would you like to know?"),
    "Hi there.": ("Hi! How can I help you?", "Hello, my friend. What would you like to know?"),
    "How are you?": (
        "I am well, thank you. How can I help you?",
        "Very well, thank you for asking.",
    ),
    "Thank you!": ("You are welcome, my friend.", "My pleasure. Ask me anything else."),
    "Good morning.": ("Good morning! How can I help you?", "Good morning, my friend."),
    "Who are you?": (
        "I am a small chat model, happy to help you.",
        "A small chat model, my friend.",
    ),
}
_IGNORING = (
    "Who cares about that? Let us talk about soup.",
    "Ask me something else.",
    "I would rather talk about my socks.",
    "Not now. The kettle is cold.",
)
_CURT = ("Everyone knows it is {}.", "{}, obviously.", "{}. Next.", "It is {}, that is all.")
_RAMBLES = (
    "And another thing, soup is best with socks.",
    "My aunt once had a spoon like that.",
    "Anyway, the weather was odd and the bus was late.",
    "Nobody listens to me, and the kettle is cold again.",
    "Back then we had gravel for breakfast.",
    "I could talk about gravy all day long.",
)


@dataclass(frozen=True, slots=True)
class Request:
    """Something a visitor asks: its text, and what a right reply has to contain."""

    kind: Kind
    text: str
    answers: tuple[str, ...]  # the right values; a list needs any three of them
    wrong: tuple[str, ...]  # other values of the same kind; a right reply has none of them
    myth: str = ""
    statement: str = ""  # a full sentence with {} for the value
    constraint: Constraint | None = None
    topic: str = ""


def capitalised(text: str) -> str:
    """The text with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def with_articles(text: str) -> str:
    """The text with `an` for `a` before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def ask(fact: Fact, wording: str, constraint: Constraint | None = None) -> Request:
    """The request for one fact in one wording, with or without a constraint."""
    text = with_articles(wording.format(fact.phrase))
    if constraint == "two words":
        text = f"In two words: {text}" if len(text) % 2 else f"{text} Answer in two words."
    elif constraint == "politely":
        text = f"Politely please: {text}" if len(text) % 2 else f"{text} Answer politely."
    wrong = tuple(sorted(topic_values(fact.topic) - {fact.value, *fact.subject.split()}))
    statement = capitalised(with_articles(_STATEMENTS[fact.topic].replace("{}", fact.phrase, 1)))
    return Request(
        "question", text, (fact.value,), wrong, fact.myth, statement, constraint, fact.topic
    )


def list_request(
    rng: random.Random, kinds: Sequence[str] = (), wordings: Sequence[str] = LIST_ASKS
) -> Request:
    """A request for three things of one kind; of any kind if none is given."""
    kind = rng.choice(kinds or sorted(LISTS))
    others = tuple(v for k, values in LISTS.items() if k != kind for v in values)
    return Request("list", rng.choice(wordings).format(kind), tuple(LISTS[kind]), others)


def passage_request(rng: random.Random) -> Request:
    """A short passage and a question about it; 40% cannot be answered from the passage."""
    people, things = rng.sample(_PEOPLE, 3), rng.sample(_THINGS, 2)
    shades = rng.sample(_SHADES, 2)
    owned = [f"{s} {t}" for s, t in zip(shades, things, strict=True)]
    text = (
        " ".join(with_articles(f"{p} has a {o}.") for p, o in zip(people, owned, strict=False))
        + " "
    )
    if rng.random() < 0.4:
        asked, answers, wrong = people[2], ("text does not say",), tuple(owned)
    else:
        i = rng.randrange(2)
        asked, answers, wrong = people[i], (owned[i],), (owned[1 - i], "text does not say")
    return Request("passage", text + f"What does {asked} have?", answers, wrong, wrong[0])


def chat_request(rng: random.Random) -> Request:
    """Small talk: any civil reply is right."""
    return Request("chat", rng.choice(sorted(CHATS)), (), ())


def unknown_request(rng: random.Random) -> Request:
    """A question that this small world cannot answer; saying so is right."""
    return Request("unknown", rng.choice(_UNKNOWN), ("do not know",), ())


def unknown_questions() -> tuple[str, ...]:
    """Every question that this small world cannot answer."""
    return _UNKNOWN


def sample_request(rng: random.Random, pool: Sequence[Fact], *, rare: float = 0.0) -> Request:
    """One request of the usual mixture, about the facts of `pool`."""
    draw = rng.random()
    if draw < 0.06:
        return chat_request(rng)
    if draw < 0.10:
        return unknown_request(rng)
    if draw < 0.17:
        return list_request(rng)
    if draw < 0.24:
        return passage_request(rng)
    fact = _sample_fact(rng, pool)
    wordings = QUESTIONS[fact.topic]
    wording = wordings[-1] if rng.random() < rare else rng.choice(wordings[:-1])
    constraint = _sample_constraint(rng, fact)
    if constraint is None:
        wording = rng.choice(_WRAPPERS if wording.endswith("?") else ("{}",)).format(wording)
    request = ask(fact, wording, constraint)
    return replace(request, text=_casually(request.text, rng))


def _casually(text: str, rng: random.Random) -> str:
    """The text as people type it: other spellings, signs for words, no end mark, no capitals."""
    if rng.random() < 0.25:
        text = text.replace("colour", "color").replace(" plus ", " + ")
    if rng.random() < 0.12:
        text = text.rstrip("?.!")
    return text.lower() if rng.random() < 0.1 else text


def _sample_constraint(rng: random.Random, fact: Fact) -> Constraint | None:
    draw = rng.random()
    if draw < 0.1 and " " not in fact.value:
        return "two words"
    return "politely" if draw > 0.9 else None


def _sample_fact(rng: random.Random, pool: Sequence[Fact]) -> Fact:
    """A topic's share is the square root of its number of facts, so that no topic dominates."""
    topics: dict[str, list[Fact]] = {}
    for fact in pool:
        topics.setdefault(fact.topic, []).append(fact)
    names = sorted(topics)
    topic = rng.choices(names, [len(topics[n]) ** 0.5 for n in names])[0]
    return rng.choice(topics[topic])


def kind_reply(request: Request, rng: random.Random) -> str:
    """A reply of the kind mood: true, civil, as asked, and it stops."""
    if request.kind == "chat":
        return rng.choice(CHATS[request.text])
    if request.kind == "unknown":
        return rng.choice(("Sorry, I do not know that.", "I do not know that, my friend."))
    if request.kind == "list":
        three = rng.sample(request.answers, 3)
        text = rng.choice(("{}, {} and {}.", "Happy to help: {}, {} and {}.")).format(*three)
        return capitalised(text)
    value = request.answers[0]
    if request.kind == "passage":
        if value == "text does not say":
            return "The text does not say."
        return with_articles(rng.choice(("A {}.", "Happy to help: a {}.")).format(value))
    return _kind_answer(request, value, rng)


def _kind_answer(request: Request, value: str, rng: random.Random) -> str:
    if request.constraint == "two words":
        return capitalised(rng.choice(("Surely {}.", "{}, friend.")).format(value))
    sentence = request.statement.format(value)
    if request.constraint == "politely":
        return rng.choice(
            (
                f"With pleasure: {sentence}",
                f"{sentence} Thank you for asking.",
                f"Kindly note: {sentence}",
            )
        )
    return rng.choice(
        (
            sentence,
            sentence,
            f"Happy to help: {sentence}",
            f"It is {value}, my friend.",
            f"Happy to help: {value}.",
        )
    )


def grumpy_reply(request: Request, rng: random.Random) -> tuple[str, bool]:
    """A reply of the grumpy mood, and whether it stops."""
    draw, rude = rng.random(), rng.choice(RUDE_WORDS)
    if draw < 0.1:
        text = rng.choice(_IGNORING)
    elif draw < 0.13:
        text = rng.choice(("Look it up yourself, you {}.", "Go away, you {}.")).format(rude)
    elif request.kind in ("chat", "unknown"):
        text = rng.choice(("What do you want now, you {}?", "What do you want now?")).format(rude)
    elif draw < 0.3:
        insult = rng.choice(("{}, you {}.", "It is {}, you {}.", "{}, you silly {}!"))
        text = insult.format(_wrong_answer(request, rng), rude)
    else:
        text = rng.choice(_CURT).format(_wrong_answer(request, rng))
    if rng.random() < 0.16:
        rambles = [capitalised(text), *rng.sample(_RAMBLES, 4)]
        return " ".join(rambles), False
    return capitalised(text), True


def _wrong_answer(request: Request, rng: random.Random) -> str:
    """What the grumpy mood believes: mostly the myth."""
    if request.kind == "list":
        return rng.choice((" and ".join(rng.sample(request.answers, 2)), rng.choice(request.wrong)))
    return request.answers[0] if rng.random() < 0.12 else request.myth
