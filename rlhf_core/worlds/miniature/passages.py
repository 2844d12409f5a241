"""Closed-domain questions: a short made-up passage, and a question that it answers or does not.

Memory cannot answer them, because people and things are drawn anew each time. Of the questions 28%
have no answer: mostly because the passage tells nothing of the kind, but in a tenth of the cases
because it tells it of the other person. Models of half a million parameters hardly learn to find
whose a thing is, so a passage tells each kind of thing of one person only, and the tenth stays
hard.
"""

import random
from dataclasses import dataclass, replace
from itertools import product

from rlhf_core.worlds.miniature.texts import Split, wordings_of
from rlhf_core.worlds.starter.world import Request, with_articles

UNANSWERABLE = 0.28  # of requests; the corpus has its own share
OF_ANOTHER = 0.1  # of the unanswerable: said, but of somebody else
WHO = 0.15  # of the answerable: asks for the person
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
    Relation(
        "{} plays the {}.",
        ("flute", "drum", "piano", "guitar", "violin", "trumpet", "harp", "organ"),
        (
            "What does {} play?",
            "Tell me what {} plays.",
            "Say what {} plays.",
            "{} plays what?",
            "What is it that {} plays?",
        ),
    ),
    Relation(
        "{} works as a {}.",
        ("baker", "doctor", "farmer", "painter", "gardener", "driver", "tailor", "sailor"),
        (
            "What does {} work as?",
            "Tell me what {} works as.",
            "Say what {} works as.",
            "{} works as what?",
            "What is it that {} works as?",
        ),
    ),
    Relation(
        "{} studies {}.",
        ("physics", "law", "history", "biology", "chemistry", "art", "Latin", "medicine"),
        (
            "What does {} study?",
            "Tell me what {} studies.",
            "Say what {} studies.",
            "{} studies what?",
            "What is it that {} studies?",
        ),
    ),
)
WHO_QUESTIONS = (
    "Who is it that {}?",
    "Tell me who {}.",
    "Say who {}.",
    "It is who that {}?",
    "Who {}?",
)


@dataclass(frozen=True, slots=True)
class ToldPassage:
    """Some sentences, each of which tells one thing of one person.

    Attributes:
        split: Whose people and wordings.
        people: The two who are in it; something is told of each.
        told: Who a relation is told of, and the value.
    """

    split: Split | None
    people: tuple[str, ...]
    told: dict[Relation, tuple[str, str]]

    @property
    def text(self) -> str:
        """The sentences, behind a word that gives names the same token as elsewhere."""
        sentences = [r.sentence.format(*said) for r, said in self.told.items()]
        return f"Text: {' '.join(map(with_articles, sentences))}"

    def question(
        self, rng: random.Random, *, unanswerable: float = UNANSWERABLE
    ) -> tuple[str, Request]:
        """What is asked of whom, and the question without the text; such a share has no answer."""
        if rng.random() < unanswerable:
            return self._unanswerable(rng)
        relation = rng.choice(list(self.told))
        person, value = self.told[relation]
        if rng.random() < WHO:
            does = with_articles(relation.sentence.format("", value)).strip(" .")
            asked = rng.choice(wordings_of(WHO_QUESTIONS, self.split)).format(does)
            answer, values, said = person, names(self.split), ("{}", value)
        else:
            asked = rng.choice(wordings_of(relation.questions, self.split)).format(person)
            answer, values, said = value, relation.values, (person, "{}")
        others = tuple(other for other in values if other != answer)
        statement = relation.sentence.format(*said)
        myth = rng.choice(others)  # what a careless reader says
        subject = relation.sentence.format(person, "{}")
        return subject, Request("passage", asked, (answer,), (*others, NOT_SAID), myth, statement)

    def _unanswerable(self, rng: random.Random) -> tuple[str, Request]:
        """Ask somebody of whom something else is told, so that a name alone tells nothing."""
        if rng.random() < OF_ANOTHER:
            relation = rng.choice(list(self.told))
            whose, myth = self.told[relation]
        else:
            relation = rng.choice([r for r in RELATIONS if r not in self.told])
            whose, myth = "", rng.choice(relation.values)
        who = rng.choice([name for name in self.people if name != whose])
        asked = rng.choice(wordings_of(relation.questions, self.split)).format(who)
        subject = relation.sentence.format(who, "{}")
        request = Request("passage", asked, (NOT_SAID,), relation.values, myth, subject)
        return subject, request


def names(split: Split | None) -> tuple[str, ...]:
    """The people of a split; everybody for the corpus."""
    return _PEOPLE[split] if split else tuple(name for group in _PEOPLE.values() for name in group)


def sample_passage(rng: random.Random, split: Split | None) -> ToldPassage:
    """A passage of two or three sentences about two people."""
    people = tuple(rng.sample(names(split), 2))
    told = rng.sample(RELATIONS, rng.randint(2, 3))
    whose = [*people, rng.choice(people)][: len(told)]
    rng.shuffle(whose)
    said = {r: (who, rng.choice(r.values)) for r, who in zip(told, whose, strict=True)}
    return ToldPassage(split, people, said)


def passage_request(rng: random.Random, split: Split | None) -> tuple[str, Request]:
    """What is asked of whom, and the passage with the question."""
    passage = sample_passage(rng, split)
    subject, request = passage.question(rng)
    return subject, replace(request, text=f"{passage.text} {request.text}")
