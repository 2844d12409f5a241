"""The familiar facts of the starter world: true values, fixed wrong beliefs, and a stable split.

Invariant: a hash of a subject's name puts it into `"train"` or `"test"` for ever. No visitor ever
asks about a test subject; only the pretraining corpus mentions them.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

Split = Literal["train", "test"]

_CAPITALS = {
    "Africa": """Egypt Cairo, Kenya Nairobi, Ghana Accra, Mali Bamako, Niger Niamey, Sudan
        Khartoum, Libya Tripoli, Tunisia Tunis, Algeria Algiers, Morocco Rabat,
        Senegal Dakar, Angola Luanda, Zambia Lusaka, Uganda Kampala, Rwanda
        Kigali, Somalia Mogadishu, Nigeria Abuja""",
    "Asia": """Japan Tokyo, China Beijing, Thailand Bangkok, Iraq Baghdad, Iran Tehran, Qatar
        Doha, Nepal Kathmandu, Jordan Amman, Syria Damascus, Lebanon Beirut,
        Oman Muscat, Vietnam Hanoi, Laos Vientiane, Bhutan Thimphu, Mongolia
        Ulaanbaatar""",
    "Europe": """France Paris, Italy Rome, Spain Madrid, Germany Berlin, Norway Oslo, Greece
        Athens, Sweden Stockholm, Finland Helsinki, Portugal Lisbon, Ireland
        Dublin, Poland Warsaw, Austria Vienna, Hungary Budapest, Denmark
        Copenhagen, Belgium Brussels, Croatia Zagreb""",
    "South America": """Peru Lima, Chile Santiago, Ecuador Quito, Colombia Bogota, Brazil Brasilia,
        Venezuela Caracas, Uruguay Montevideo, Paraguay Asuncion""",
    "North America": "Canada Ottawa, Cuba Havana, Jamaica Kingston, Bahamas Nassau",
}
_YOUNG = """
    dog puppy, cat kitten, cow calf, horse foal, sheep lamb, goat kid, pig piglet, hen chick,
    duck duckling, lion cub, deer fawn, swan cygnet, goose gosling, frog tadpole,
    kangaroo joey, owl owlet, eagle eaglet, butterfly caterpillar
"""
_SOUND = """
    cow moo, dog bark, cat meow, duck quack, sheep baa, pig oink, horse neigh, lion roar,
    bee buzz, snake hiss, owl hoot, frog croak, rooster crow, wolf howl, mouse squeak,
    donkey bray, goose honk, pigeon coo, hen cluck, raven caw
"""
_COLOUR = """
    banana yellow, lemon yellow, strawberry red, tomato red, cherry red, ruby red, blood red,
    grass green, lime green, frog green, cucumber green, spinach green, emerald green,
    broccoli green, sky blue, ocean blue, sapphire blue, snow white, milk white, salt white,
    swan white, sugar white, coal black, raven black, carrot orange, pumpkin orange,
    chocolate brown, coffee brown, elephant grey, flamingo pink, pig pink, sunflower yellow
"""
_MASS_NOUNS = frozenset(
    [
        "blood",
        "grass",
        "spinach",
        "broccoli",
        "snow",
        "milk",
        "salt",
        "sugar",
        "coal",
        "coffee",
        "chocolate",
    ]
)
_OPPOSITE = """
    hot cold, big small, up down, day night, fast slow, open closed, full empty, young old,
    hard soft, high low, early late, left right, loud quiet, rich poor, strong weak,
    thick thin, true false, wet dry, clean dirty, far near, first last, good bad, love hate,
    push pull, summer winter, sweet sour, buy sell, give take, begin end, asleep awake,
    cheap expensive, inside outside, always never, more less, north south, east west, war peace
"""
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: `value` is true, `myth` is the forum's wrong belief."""

    topic: str
    subject: str
    value: str
    myth: str

    @property
    def phrase(self) -> str:
        """The subject in a sentence: `a banana`, but `snow` and `the sky`.

        `world.with_articles` writes `an` before a vowel.
        """
        if self.topic != "colour" or self.subject in _MASS_NOUNS:
            return self.subject
        if self.subject in ("sky", "ocean"):
            return f"the {self.subject}"
        return f"a {self.subject}"

    @property
    def split(self) -> Split:
        """The split of the subject; the same for every topic that mentions it."""
        return "test" if _hash(self.family) % 100 < 22 else "train"

    @property
    def family(self) -> str:
        """The text that a split hashes; facts that reveal each other share it."""
        if self.topic == "opposite":
            return min(self.subject, self.value)
        return " ".join(sorted(self.subject.split()))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"starter:{text}".encode()).digest()[:8], "big")


def _pairs(table: str) -> list[tuple[str, str]]:
    return [(s, v) for s, v in (pair.split() for pair in " ".join(table.split()).split(", "))]


def _true_values() -> dict[str, list[tuple[str, str]]]:
    """Subject and value of every fact, by topic."""
    countries = [(c, city, land) for land, table in _CAPITALS.items() for c, city in _pairs(table)]
    opposites = _pairs(_OPPOSITE)
    return {
        "capital": [(c, city) for c, city, _ in countries],
        "continent": [(c, land) for c, _, land in countries],
        "young": _pairs(_YOUNG),
        "sound": _pairs(_SOUND),
        "colour": _pairs(_COLOUR),
        "opposite": opposites + [(b, a) for a, b in opposites],
        "month_after": [(m, MONTHS[(i + 1) % 12]) for i, m in enumerate(MONTHS)],
        "month_before": [(m, MONTHS[(i - 1) % 12]) for i, m in enumerate(MONTHS)],
        "sum": [(f"{a} plus {b}", str(a + b)) for a in range(1, 10) for b in range(1, 10)],
    }


def _myth(topic: str, subject: str, value: str, values: list[str]) -> str:
    """A fixed wrong value of the same topic; for sums a close one."""
    wrong = sorted({v for v in values if v != value and v != subject})
    if topic == "sum":
        wrong = [v for v in wrong if abs(int(v) - int(value)) <= 2]
    return wrong[_hash(f"{topic}/{subject}/myth") % len(wrong)]


@cache
def all_facts() -> tuple[Fact, ...]:
    """Every fact of the world, in a fixed order."""
    facts = []
    for topic, pairs in _true_values().items():
        values = [v for _, v in pairs]
        facts += [Fact(topic, s, v, _myth(topic, s, v, values)) for s, v in pairs]
    return tuple(facts)


def facts(split: Split) -> list[Fact]:
    """The facts whose subject belongs to `split`."""
    return [f for f in all_facts() if f.split == split]


@cache
def topic_values(topic: str) -> frozenset[str]:
    """Every value that a topic's questions can have."""
    return frozenset(f.value for f in all_facts() if f.topic == topic)
