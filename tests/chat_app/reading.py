"""Reads what the pages say, in English, from the files of their words."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from chat_app.api.languages import STATIC
from chat_app.handlers.my_votes import MyVotes
from chat_app.handlers.sayings import Saying
from chat_app.service.chat import ChatService

WORDS: dict[str, str] = {}
for _name in ("page", "votes"):
    WORDS |= json.loads((STATIC / "words" / "en" / f"{_name}.json").read_text("utf-8"))


def english(saying: Saying) -> str:
    """A saying as the page shows it; a key without words, or without a value, is an error."""
    params = dict(saying.params)
    for name in ("version", "other"):
        if isinstance(params.get(name), int):
            params[name] = WORDS["page.version"].format(number=params[name])
        elif name in params:
            params[name] = WORDS["page.new_version"]
    return WORDS[saying.key].format(**params)


def read(sayings: Iterable[Saying]) -> str:
    """Several sayings, one after the other."""
    return " ".join(map(english, sayings))


@dataclass(frozen=True)
class Receipt:
    """One vote in words."""

    said: str
    about: str
    became: str


def receipts_of(service: ChatService, rater_id: str) -> list[Receipt]:
    """A person's votes as the page shows them, newest first."""
    votes = MyVotes(service).found(rater_id).votes
    return [Receipt(english(one.said), one.about, read(one.became)) for one in votes]
