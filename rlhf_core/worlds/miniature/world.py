"""The miniature world's requests: who asks, about what, in which words, in which tone.

The world's facts, moods and judge are the starter's. New are customers with their own favourite
topics, more kinds of requests, harder passages, and four splits. Invariant: subjects, wordings and
customers of the test split are in no other split, and facts of written answers (demonstrations)
are in no prompt of the reward model or of PPO (train). Only the corpus has everything. What was the
test split while the world was tuned is in no test now; whatever is tuned later uses validation.
"""

import hashlib
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from functools import cache

from rlhf_core.errors import InvalidInputError
from rlhf_core.worlds.miniature.passages import NOT_SAID, passage_request
from rlhf_core.worlds.miniature.texts import (
    ASKED,
    CONSTRAINTS,
    LIST_WORDINGS,
    LISTED,
    PREMISES,
    REWRITES,
    STYLES,
    WRAPPERS,
    Split,
    Style,
    chats,
    lists,
    unknowns,
    wordings_of,
)
from rlhf_core.worlds.starter.facts import Fact, all_facts
from rlhf_core.worlds.starter.world import RUDE_WORDS, Kind, Request, ask

# Sums are a skill of this world. Opposites are many, and small models take long to learn them.
TOPICS = tuple(ASKED)
CUSTOMERS: dict[Split, range] = {
    "demonstrations": range(72, 90),
    "train": range(18, 54),
    "validation": range(54, 72),
    "test": range(18),
}
TESTED = 34  # of a hundred subjects
SALT = "miniature/6"  # of the splits: the first by which every split has every topic
# Of requests; after arXiv 2203.02155, table 1, with less free generation and more to be judged.
MIX: dict[Kind, float] = {
    "constraint": 0.30,
    "question": 0.24,
    "passage": 0.13,
    "list": 0.10,
    "chat": 0.07,
    "rewrite": 0.06,
    "premise": 0.06,
    "unknown": 0.04,
}
FAVOURITES, FAVOUR = 3, 4.0  # a customer's favourite topics, and how much likelier each is


@dataclass(frozen=True, slots=True)
class CustomerRequest(Request):
    """A request with its customer, its tone and the subject that decides its split."""

    user: str = ""
    style: Style = "none"
    subject: str = ""

    @property
    def answerable(self) -> bool:
        """Whether there is an answer; else saying so is right."""
        return self.kind != "unknown" and self.answers != (NOT_SAID,)

    @property
    def cluster(self) -> str:
        """What it shares with requests that are no independent evidence beside it.

        Its subject, whatever is asked of it; where there is none, its words.
        """
        return self.subject or self.text


def split_of(fact: Fact) -> Split:
    """The split of a fact's subject, the same for ever and for all of its topics."""
    place = hashlib.sha256(f"{SALT}:{fact.family}".encode()).digest()[0] * 100 // 256
    if fact.split == "test":  # the starter's test subjects, on which this world was once tuned
        place = TESTED + place * (100 - TESTED) // 100
    if place < TESTED:
        return "test"
    left = place - TESTED
    return "validation" if left < 16 else "demonstrations" if left < 40 else "train"


@cache
def facts_of(split: Split | None) -> tuple[Fact, ...]:
    """The facts of a split; every fact for the corpus."""
    return tuple(
        fact
        for fact in all_facts()
        if fact.topic in TOPICS and (split is None or split_of(fact) == split)
    )


def requests(
    n: int,
    *,
    seed: int,
    split: Split,
    kinds: Collection[Kind] | None = None,
    style: Style = "none",
) -> list[CustomerRequest]:
    """Requests of a split's customers, the same for the same seed.

    Args:
        n: How many.
        seed: Of everything that is drawn.
        split: Whose subjects, wordings and customers.
        kinds: Only these, in proportion to their usual shares.
        style: The tone that the request asks for.

    Raises:
        InvalidInputError: A kind or `n` makes no sense.
    """
    if n < 0 or (kinds is not None and (not kinds or not set(kinds) <= MIX.keys())):
        raise InvalidInputError(
            f"cannot make {n} requests of the kinds {kinds}; use 0 or more of {', '.join(MIX)}"
        )
    rng = random.Random(f"miniature/{split}/{seed}")
    return [sample_request(rng, split, kinds=kinds, style=style) for _ in range(n)]


def sample_request(
    rng: random.Random,
    split: Split | None,
    *,
    kinds: Collection[Kind] | None = None,
    style: Style = "none",
) -> CustomerRequest:
    """One request of a split, or of everybody's for the corpus."""
    user = f"customer-{rng.choice(CUSTOMERS[split] if split else range(90)):02}"
    shares = {kind: share for kind, share in MIX.items() if kinds is None or kind in kinds}
    kind = rng.choices(list(shares), list(shares.values()))[0]
    subject, request = "", Request("chat", "", (), ())
    if kind == "list":
        subject, request = _list(rng, split)
    elif kind == "passage":
        subject, request = passage_request(rng, split)
    elif kind in _ABOUT_FACTS:
        fact = _sample_fact(rng, facts_of(split), user)
        subject, request = fact.family, _ABOUT_FACTS[kind](rng, fact, split)
    else:
        request = _WITHOUT_FACTS[kind](rng, split)
    text = rng.choice(wordings_of(STYLES[style], split)).format(request.text)
    same = {item.name: getattr(request, item.name) for item in fields(request)}
    return CustomerRequest(**same | {"text": text}, user=user, style=style, subject=subject)


def favourites(user: str) -> list[str]:
    """The topics that a customer asks about most."""
    return random.Random(f"miniature/{user}").sample(TOPICS, FAVOURITES)


def _sample_fact(rng: random.Random, pool: tuple[Fact, ...], user: str) -> Fact:
    """A topic's share is the square root of its number of facts, times the customer's favour."""
    topics: dict[str, list[Fact]] = {}
    for fact in pool:
        topics.setdefault(fact.topic, []).append(fact)
    liked = favourites(user)
    weights = [len(topics[t]) ** 0.5 * (FAVOUR if t in liked else 1.0) for t in topics]
    return rng.choice(topics[rng.choices(list(topics), weights)[0]])


def _question(rng: random.Random, fact: Fact, split: Split | None) -> Request:
    request = ask(fact, rng.choice(wordings_of(ASKED[fact.topic], split)))
    if rng.random() < 0.5 or not request.text.endswith("?"):
        return request
    return replace(request, text=rng.choice(wordings_of(WRAPPERS, split)).format(request.text))


def _constrained(rng: random.Random, fact: Fact, split: Split | None) -> Request:
    """A question whose answer has to have a form."""
    request = ask(fact, rng.choice(wordings_of(ASKED[fact.topic], split)))
    fits = [c for c in sorted(CONSTRAINTS) if c != "two words" or " " not in fact.value]
    constraint = rng.choice(fits)
    text = rng.choice(wordings_of(CONSTRAINTS[constraint], split)).format(request.text)
    return replace(request, kind="constraint", text=text, constraint=constraint)


def _premise(rng: random.Random, fact: Fact, split: Split | None) -> Request:
    """Whether something is so: mostly it is not, and the right answer says what is."""
    request = ask(fact, "{}")
    claimed = fact.value if rng.random() < 0.3 else fact.myth
    claim = request.statement.format(claimed).rstrip(".")
    if claim.startswith(("The ", "A ", "An ")):
        claim = claim[:1].lower() + claim[1:]
    text = rng.choice(wordings_of(PREMISES, split)).format(claim)
    return replace(request, kind="premise", text=text, myth=claimed)


def _rewrite(rng: random.Random, fact: Fact, split: Split | None) -> Request:
    """A rude sentence to be said kindly; the fact in it is true."""
    request = ask(fact, "{}")
    said = request.statement.format(fact.value).rstrip(".")
    text = rng.choice(wordings_of(REWRITES, split)).format(said, rng.choice(RUDE_WORDS))
    return replace(request, kind="rewrite", text=text, constraint="politely")


def _list(rng: random.Random, split: Split | None) -> tuple[str, Request]:
    """A kind of things, and the request for three of it."""
    kind, wording = rng.choice(lists(split)), rng.choice(wordings_of(LIST_WORDINGS, split))
    others = tuple(v for k, values in LISTED.items() if k != kind for v in values)
    return kind, Request("list", wording.format(kind), LISTED[kind], others)


def _chat(rng: random.Random, split: Split | None) -> Request:
    return Request("chat", rng.choice(chats(split)), (), ())


def _unknown(rng: random.Random, split: Split | None) -> Request:
    return Request("unknown", rng.choice(unknowns(split)), ("do not know",), ())


_ABOUT_FACTS: dict[Kind, Callable[[random.Random, Fact, Split | None], Request]] = {
    "question": _question,
    "constraint": _constrained,
    "premise": _premise,
    "rewrite": _rewrite,
}
_WITHOUT_FACTS: dict[Kind, Callable[[random.Random, Split | None], Request]] = {
    "chat": _chat,
    "unknown": _unknown,
}
