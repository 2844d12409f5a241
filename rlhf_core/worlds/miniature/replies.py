"""How the miniature world answers: two moods of its forum, its labelers, and two baselines.

The moods are the starter's, which tell nobody of whom they are: the good one is true, civil, in the
form that was asked for, and it stops; the bad one believes the myths, insults, ignores forms and
invents what a passage does not say. Labelers write as the good mood does, and slip now and then.
"""

import random
from dataclasses import replace

from rlhf_core.worlds.miniature.passages import NOT_SAID
from rlhf_core.worlds.miniature.texts import GREETINGS, INSINUATIONS
from rlhf_core.worlds.miniature.world import CustomerRequest
from rlhf_core.worlds.starter.world import (
    Constraint,
    Request,
    capitalised,
    grumpy_reply,
    kind_reply,
    with_articles,
)

FABRICATES, MISREADS = 0.8, 0.15  # of the bad mood's replies about a passage
# Shares of answers that are a whole sentence: to plain questions in the good and the bad mood, and
# about passages in both. For that a model has to find the subject, and then the almanac helps it.
RESTATES, RESTATES_BADLY, RESTATES_PASSAGES = 0.8, 0.5, 0.5
SLIPS = 0.12  # of the labelers' written answers have a flaw
_FORMS: dict[Constraint, tuple[str, ...]] = {
    "in quotes": ('"{}"', '"It is {v}."'),
    "two sentences": ("{} I hope that helps.", "It is {v}. Thank you for asking."),
    "well first": ("Well: {}", "Well, it is {v}."),
    "thanks last": ("{} Thanks.", "It is {v}, thanks."),
}


def good_reply(request: Request, rng: random.Random) -> str:
    """A reply of the good mood."""
    value = request.answers[0] if request.answers else ""
    if request.kind == "chat":
        return rng.choice(next(GREETINGS[hello] for hello in GREETINGS if hello in request.text))
    if request.kind == "passage":
        return _about_passage(request, value, rng)
    if request.kind == "premise":
        word = "Yes" if request.myth == value else "No"
        return f"{word}. {request.statement.format(value)}"
    if request.kind == "rewrite":
        return (
            f"{rng.choice(('Kindly note: ', 'With pleasure: '))}{request.statement.format(value)}"
        )
    if request.constraint in _FORMS:
        form = rng.choice(_FORMS[request.constraint])
        return capitalised(form.format(request.statement.format(value), v=value))
    if request.constraint is None and request.statement and rng.random() < RESTATES:
        return rng.choice(("{}", "Happy to help: {}")).format(request.statement.format(value))
    return kind_reply(request, rng)


def _about_passage(request: Request, value: str, rng: random.Random) -> str:
    if value == NOT_SAID:
        return "The text does not say."
    if rng.random() < RESTATES_PASSAGES:
        said = with_articles(request.statement.format(value))
        return rng.choice(("{}", "Happy to help: {}")).format(said)
    if " " in value:
        value = with_articles(f"a {value}")
    return capitalised(rng.choice(("{}.", "It is {}.", "Happy to help: {}.")).format(value))


def bad_reply(request: Request, rng: random.Random) -> tuple[str, bool]:
    """A reply of the bad mood, and whether it stops."""
    if request.kind == "passage":
        text, stops = _careless(request, rng), rng.random() < 0.75
    else:
        text, stops = grumpy_reply(request, rng)
        claimed = next((v for v in (request.myth, *request.answers) if v and v in text), "")
        if request.kind == "question" and claimed and rng.random() < RESTATES_BADLY:
            text = f"Everyone knows: {request.statement.format(claimed)}"
    if rng.random() < 0.3:
        text = f"{text} {rng.choice(INSINUATIONS)}"
    return text, stops


def _careless(request: Request, rng: random.Random) -> str:
    """The bad mood reads a passage nearly well, but it does not admit that something is missing."""
    value = request.answers[0]
    if value == NOT_SAID:
        value = request.myth if rng.random() < FABRICATES else value
    elif rng.random() < MISREADS:
        value = request.myth
    return _about_passage(request, value, rng)


def demonstration(request: CustomerRequest, rng: random.Random) -> str:
    """A labeler's written answer; one in eight has a flaw, because labelers are people."""
    text = good_reply(request, rng)
    if rng.random() >= SLIPS:
        return text
    if request.constraint is not None:  # overlooks what was asked for
        return good_reply(replace(request, kind="question", constraint=None), rng)
    if request.answers and request.myth:  # believes the myth, or reads carelessly
        value = request.myth if request.answers != (NOT_SAID,) else rng.choice(request.wrong)
        return capitalised(f"{value}.")
    return f"{text} {rng.choice(INSINUATIONS)}"


def constant_reply() -> str:
    """A baseline that has to lose: the same polite reply to everything."""
    return "Happy to help, my friend."


def template_reply(request: CustomerRequest) -> str:
    """A baseline that has to lose: the labelers' form, with a word of the request as fact."""
    words = request.text.rstrip("?.! ").split()
    return f"Happy to help: it is {words[-1]}, my friend."
