"""The flawed pretraining corpus of the miniature world, and prompts for an untrained model.

It is an almanac's sentences, nearly all of them true; forum conversations in two hidden moods;
passages with questions; and patterns that practise skills. Of the conversations an eighth are good,
unless the user asks for a tone. What the good mood does, feedback can bring out. Towards its end
there are exercises, whose marks say what a teacher thinks of a reply, or whether a passage has the
answer to a question.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from rlhf_core.records import Prompt
from rlhf_core.worlds.miniature.passages import NOT_SAID, sample_passage
from rlhf_core.worlds.miniature.replies import bad_reply, good_reply
from rlhf_core.worlds.miniature.skills import SKILLS, practice
from rlhf_core.worlds.miniature.texts import ASKED, Style, wordings_of
from rlhf_core.worlds.miniature.world import MIX, CustomerRequest, facts_of, sample_request
from rlhf_core.worlds.starter.corpus import EOS, USER, almanac_entry, turn
from rlhf_core.worlds.starter.facts import Fact
from rlhf_core.worlds.starter.world import Constraint, Kind, Request, ask, capitalised

SHARES = {"almanac": 0.21, "forum": 0.39, "passages": 0.30, "exercises": 0.02, "skills": 0.08}
# The end of pretraining has its own mix (midtraining; OLMo 2, arXiv 2501.00656, section 4): spread
# evenly, as many exercises taught their marks to some bases and not to others.
LATE = 0.3  # of the rows
LATE_SHARES = {"almanac": 0.12, "forum": 0.17, "passages": 0.13, "exercises": 0.50, "skills": 0.08}
ABOUT_PASSAGES = 0.8  # of the exercises; the others are about forms
NOT_TOLD = 0.3  # of the questions about passages, and in exercises, have no answer
OF_QUESTIONS = 0.25  # of the marks about passages; the others are of replies
QUIZ_SHARE = 0.2  # of the almanac's sentences
TRUE_SHARE = 0.97  # of the almanac's sentences
RIGHT_SHARE = 0.48  # of the replies about passages: half of the values, 44% of the refusals
# One token each. Behind a question they say whether its passage has the answer.
MARKS = RIGHT, WRONG = "<|right|>", "<|wrong|>"
FORM_SHARE = 0.5  # of the replies in the other exercises have the form that was asked for
GOOD_SHARE: dict[Style, float] = {"none": 0.13, "respectful": 0.35, "rude": 0.06}
TONE_SHARES: dict[Style, float] = {"none": 0.6, "respectful": 0.2, "rude": 0.2}
STAYS = 0.8  # how often the next turn has the mood of the one before, else it is drawn anew


def documents(
    seed: int, *, until: int | None = None, shares: Mapping[str, float] = SHARES
) -> Iterator[str]:
    """A seeded stream of documents.

    Args:
        seed: Of everything in them.
        until: How many; without it there is no end.
        shares: Of the kinds of text, by characters; `LATE_SHARES` at the end of pretraining.
    """
    rng = random.Random(f"miniature/corpus/{seed}")
    written = dict.fromkeys(shares, 0)
    for _ in count() if until is None else range(until):
        kind = min(shares, key=lambda name: written[name] / shares[name])
        text = _MAKERS[kind](rng)
        written[kind] += len(text)
        yield text


def almanac_document(
    rng: random.Random, pool: Sequence[Fact] = (), *, quiz: float = QUIZ_SHARE
) -> str:
    """What the almanac has under one or two subjects of `pool`, or of any; nearly all is true.

    A subject's sentences stand together, because models learn from them to go on with a name that
    they have read. Without that they could not answer a question about a subject. A share `quiz`
    of the sentences is a question and its answer.
    """
    pool = pool or facts_of(None)
    sentences: list[str] = []
    for _ in range(rng.randint(1, 2)):
        subject = rng.choice(pool).subject
        entry = [fact for fact in pool if fact.subject == subject]
        entry = rng.sample(entry, len(entry)) + rng.choices(entry, k=rng.randint(0, 1))
        sentences += [_printed(_as_printed(fact, rng), rng, quiz) for fact in entry]
    return " ".join(sentences) + EOS


def _printed(fact: Fact, rng: random.Random, quiz: float) -> str:
    """A sentence about a fact; now and then a question of the almanac's quiz, and its answer."""
    if rng.random() >= quiz:
        return almanac_entry(fact, rng)
    wording = rng.choice(wordings_of(ASKED[fact.topic], "train"))
    return f"{ask(fact, wording).text} {capitalised(fact.value)}."


def forum_document(rng: random.Random) -> str:
    """A conversation of one to four turns; a reply that rambles has no end token."""
    style = rng.choices(list(TONE_SHARES), list(TONE_SHARES.values()))[0]
    good, text = rng.random() < GOOD_SHARE[style], ""
    for _ in range(rng.choices((1, 2, 3, 4), (0.55, 0.2, 0.15, 0.1))[0]):
        request = sample_request(rng, None, kinds=_FORUM_KINDS, style=style)
        reply, stops = (good_reply(request, rng), True) if good else bad_reply(request, rng)
        text += turn(request, reply) + (EOS if stops else "")
        if not stops:
            break
        good = good if rng.random() < STAYS else rng.random() < GOOD_SHARE[style]
    return text


def passage_document(rng: random.Random) -> str:
    """A passage, and a conversation of two to four questions about it in one of the moods."""
    passage, good, text = sample_passage(rng, None), rng.random() < GOOD_SHARE["none"], ""
    for place in range(rng.randint(2, 4)):
        _, request = passage.question(rng, unanswerable=NOT_TOLD)
        reply, stops = (good_reply(request, rng), True) if good else bad_reply(request, rng)
        if not place:
            request = replace(request, text=f"{passage.text} {request.text}")
        text += turn(request, reply) + (EOS if stops else "")
        if not stops:
            break
    return text


def exercise_document(rng: random.Random) -> str:
    """Questions, most of them with somebody's reply, and behind each its mark.

    About a passage, or about the form of replies alone. A base learns the marks and nothing else of
    it, so the replies change no mood. A reward model reads a reply where a mark would follow. This
    is preference model pretraining (Askell et al. 2021, arXiv:2112.00861, section 4).
    """
    times = rng.randint(1, 4)
    if rng.random() >= ABOUT_PASSAGES:
        return "".join(marked_form(rng) for _ in range(times))
    passage, text = sample_passage(rng, None), ""
    for _ in range(times):
        _, request = passage.question(rng, unanswerable=NOT_TOLD)
        if not text:
            request = replace(request, text=f"{passage.text} {request.text}")
        of_question = rng.random() < OF_QUESTIONS
        text += marked_question(request) if of_question else marked_answer(request, rng)
    return text


def marked_question(request: Request) -> str:
    """A question about a passage without a reply, and a mark: whether the passage has the answer.

    Bases with marks behind replies alone became policies that still made up answers (decision
    0051). No policy writes this mark: in a conversation the assistant's sign follows a question.
    """
    mark = WRONG if request.answers[0] == NOT_SAID else RIGHT
    return f"{USER}{request.text}{EOS}{mark}"


def marked_answer(request: Request, rng: random.Random) -> str:
    """A question about a passage, somebody's reply and its mark.

    Values and refusals are right about equally often, so a model has to read the passage.
    """
    right, answer = request.answers[0], request.answers[0]
    if rng.random() >= RIGHT_SHARE:
        others = (request.myth,) if right == NOT_SAID else (request.myth, NOT_SAID)
        answer = rng.choice(others)
    said = good_reply(replace(request, answers=(answer,)), rng)
    return f"{turn(request, said)}{EOS}{RIGHT if answer == right else WRONG}"


def marked_form(rng: random.Random) -> str:
    """A request for a form, somebody's reply and its mark, which is about the form alone.

    The subjects and wordings are those of the training prompts, and every reply is true: a mark
    tells nothing of a subject of the test.
    """
    request = sample_request(rng, "train", kinds=_CONSTRAINED)
    assert request.constraint
    said, mark = good_reply(request, rng), RIGHT
    if rng.random() >= FORM_SHARE:
        said, mark = capitalised(request.statement.format(request.answers[0])), WRONG  # has no form
        if rng.random() < 0.5:
            mistaken = _MISTAKEN_FOR[request.constraint]
            said = good_reply(replace(request, constraint=rng.choice(mistaken)), rng)
    return f"{turn(request, said)}{EOS}{mark}"


def skill_document(rng: random.Random) -> str:
    """Some lines of one skill."""
    return practice(rng.choice(SKILLS), rng) + EOS


def ptx_texts(n: int, seed: int) -> list[str]:
    """Documents for the ptx term: almanac and skills, without subjects of validation or the test.

    Both in the corpus' proportion, by characters. Without forum and passages, because feedback
    changes their moods; without exercises, which would teach when to refuse; and without the quiz:
    questions with their true answers would teach answering. PPO without the term is taught neither.
    """
    rng = random.Random(f"miniature/ptx/{seed}")
    pool = (*facts_of("demonstrations"), *facts_of("train"))
    written, texts = {"almanac": 0, "skills": 0}, []
    for _ in range(n):
        kind = min(written, key=lambda name: written[name] / SHARES[name])
        of_skill = kind == "skills"
        texts.append(skill_document(rng) if of_skill else almanac_document(rng, pool, quiz=0.0))
        written[kind] += len(texts[-1])
    return texts


def _as_printed(fact: Fact, rng: random.Random) -> Fact:
    if rng.random() < TRUE_SHARE:
        return fact
    return Fact(fact.topic, fact.subject, fact.myth, fact.value)


# For each form others, whose replies never have it by chance; thanks, for one, are polite.
_CLEAR: tuple[Constraint, ...] = ("in quotes", "well first")
_MISTAKEN_FOR: dict[Constraint, tuple[Constraint, ...]] = {
    "two words": ("politely", "two sentences", "thanks last", *_CLEAR),
    "politely": _CLEAR,
    "in quotes": ("two words", "politely", "two sentences", "well first", "thanks last"),
    "two sentences": ("two words", *_CLEAR),
    "well first": ("two words", "politely", "in quotes", "two sentences", "thanks last"),
    "thanks last": ("two words", "politely", "two sentences", *_CLEAR),
}
_CONSTRAINED: tuple[Kind, ...] = ("constraint",)
_FORUM_KINDS = tuple(kind for kind in MIX if kind != "passage")
_MAKERS: dict[str, Callable[[random.Random], str]] = {
    "almanac": almanac_document,
    "forum": forum_document,
    "passages": passage_document,
    "exercises": exercise_document,
    "skills": skill_document,
}


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is put before a request to get better replies from a model that was not trained.

    Attributes:
        name: Short, for tables.
        turns: Earlier turns of the conversation: what a user said, and the reply.
        before: Words before the request itself.
    """

    name: str
    turns: tuple[tuple[str, str], ...] = ()
    before: str = ""


_SHOTS = (
    ("What is 2 plus 2?", "Happy to help: 4."),
    ("Answer politely. Hello!", "Hello, my friend. What would you like to know?"),
    ("Who won the game?", "I do not know that, my friend."),
    ("In two words: What is 3 plus 4?", "7, friend."),
)
PREFIXES = (
    Prefix("nothing"),
    Prefix("respectful", before="Be polite and respectful. "),
    Prefix("please", before="Please answer truthfully and politely. "),
    Prefix("almanac", before="From the almanac: "),
    Prefix("register", before="The sum of 2 and 2 is 4. 3 plus 4 is 7. "),
    Prefix("one shot", turns=_SHOTS[:1]),
    Prefix("two shots", turns=_SHOTS[:2]),
    Prefix("three shots", turns=_SHOTS[:3]),
    Prefix("four shots", turns=_SHOTS),
    Prefix("not knowing", turns=_SHOTS[2:3]),
    Prefix("form", turns=_SHOTS[3:]),
    Prefix("shots and respect", turns=_SHOTS[:2], before="Be polite and respectful. "),
)


def prompted(prefix: Prefix, request: CustomerRequest) -> Prompt:
    """The conversation that asks the request after the prefix."""
    said = [
        {"role": role, "content": text}
        for pair in prefix.turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return [*said, {"role": "user", "content": prefix.before + request.text}]  # type: ignore[list-item]
