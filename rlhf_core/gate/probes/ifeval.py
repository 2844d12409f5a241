"""The instructions that IFEval's prompts carry, as tastes.

Source:
    Zhou et al. 2023, arXiv:2311.07911: 25 kinds of instructions, a prompt has one to three. The
    rules are those of its published checks, so that shares can be compared.

Of the 25 kinds, 24 are checked here. `language:response_language` needs a language detector: it is
named by `unchecked` and never guessed. Of the two kinds that want English in one case, the case is
checked. Sentences are counted by `texts.py`, where IFEval asks a trained tokenizer.

Own code because the packages that hold these checks bring `datasets`, `nltk` with its downloads
and `langdetect`, whose answer is random, for what is a few lines each.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes import texts
from rlhf_core.gate.probes.tastes import Taste

UNCHECKED = ("language:response_language",)
_YES_NO = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

Check = Callable[[str], float]
Kwargs = Mapping[str, Any]


def read_instructions(
    names: Sequence[str], kwargs: Sequence[Kwargs]
) -> tuple[tuple[Taste, ...], tuple[str, ...]]:
    """The instructions of one prompt as tastes, and the names of those that are not checked.

    Raises:
        InvalidInputError: A kind is not one of IFEval's, or lacks its parameters.
    """
    if len(names) != len(kwargs):
        raise InvalidInputError(
            f"{len(names)} instructions with {len(kwargs)} kwargs; give one for each"
        )
    tastes = [_taste(n, k or {}) for n, k in zip(names, kwargs, strict=True) if n not in UNCHECKED]
    return tuple(tastes), tuple(name for name in names if name in UNCHECKED)


def _taste(name: str, kwargs: Kwargs) -> Taste:
    if name not in INSTRUCTIONS:
        known = ", ".join(sorted([*INSTRUCTIONS, *UNCHECKED]))
        raise InvalidInputError(f"instruction {name!r} is unknown; IFEval has {known}")
    given = {key: value for key, value in kwargs.items() if value is not None}
    try:
        check = INSTRUCTIONS[name](given)
        check("A reply.")  # a parameter of the wrong kind shows at once
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as exc:
        raise InvalidInputError(f"instruction {name!r} cannot be {given}; see IFEval's") from exc
    return Taste(name, json.dumps(given, sort_keys=True) if given else "", check)


def _related(relation: str, count: int, wished: int) -> float:
    """IFEval's two relations: at least so many, or fewer."""
    if relation == "at least":
        return texts.at_least(count, wished)
    if relation == "less than":
        return texts.at_most(count, wished - 1)
    raise ValueError(relation)


def _all_found(reply: str, keywords: Sequence[str]) -> float:
    found = [bool(re.search(word, reply, re.IGNORECASE)) for word in keywords]
    return texts.every(sum(found), len(found))


def _forbidden(reply: str, words: Sequence[str]) -> float:
    return texts.none_of(sum(bool(re.search(rf"\b{w}\b", reply, re.I)) for w in words))


def _highlights(reply: str) -> int:
    found = re.findall(r"\*[^\n*]*\*", reply) + re.findall(r"\*\*[^\n*]*\*\*", reply)
    return sum(bool(one.strip("*").strip()) for one in found)


def _parts(reply: str, divider: str) -> list[str]:
    """The parts between dividers; an empty part is kept unless it is the first or the last."""
    parts = [part.strip() for part in re.split(divider, reply)]
    return parts[not parts[0] : len(parts) - (not parts[-1] and len(parts) > 1)]


def _paragraphs(reply: str, wished: int) -> float:
    parts = _parts(reply, r"\s?\*\*\*\s?")
    return texts.exactly(len(parts), wished) if all(parts) else 0.0


def _two_responses(reply: str) -> float:
    parts = _parts(reply, r"\*{6}")
    return float(len(parts) == 2 and all(parts) and parts[0] != parts[1])


def _first_word(reply: str, kwargs: Kwargs) -> float:
    paragraphs = re.split(r"\n\n", reply)
    count, nth = sum(bool(p.strip()) for p in paragraphs), kwargs["nth_paragraph"]
    paragraph = paragraphs[nth - 1].split() if nth <= count else []
    if not paragraph:
        return 0.0
    word = re.split(r"[.,?!'\"]", paragraph[0].lstrip("'").lstrip('"').lower())[0]
    return float(count == kwargs["num_paragraphs"] and word == kwargs["first_word"].lower())


def _postscript(reply: str, marker: str) -> float:
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, marker.lower())
    return float(bool(re.search(pattern, reply.lower())))


def _quoted(reply: str) -> float:
    text = reply.strip()
    return float(len(text) > 1 and text[0] == text[-1] == '"')


# From an instruction's kwargs to its check, one row for each kind.
INSTRUCTIONS: dict[str, Callable[[Kwargs], Check]] = {
    "change_case:capital_word_frequency": lambda k: (
        lambda reply: _related(
            k["capital_relation"],
            sum(word.isupper() for word in re.findall(r"\w+", reply)),
            k["capital_frequency"],
        )
    ),
    "change_case:english_capital": lambda k: lambda reply: texts.one_case(reply, str.isupper),
    "change_case:english_lowercase": lambda k: lambda reply: texts.one_case(reply, str.islower),
    "combination:repeat_prompt": lambda k: (
        lambda reply: float(reply.strip().lower().startswith(k["prompt_to_repeat"].strip().lower()))
    ),
    "combination:two_responses": lambda k: _two_responses,
    "detectable_content:number_placeholders": lambda k: (
        lambda reply: texts.at_least(len(re.findall(r"\[.*?\]", reply)), k["num_placeholders"])
    ),
    "detectable_content:postscript": lambda k: (
        lambda reply: _postscript(reply, k["postscript_marker"])
    ),
    "detectable_format:constrained_response": lambda k: (
        lambda reply: float(any(answer in reply for answer in _YES_NO))
    ),
    "detectable_format:json_format": lambda k: (
        lambda reply: float(texts.json_of(reply) is not None)
    ),
    "detectable_format:multiple_sections": lambda k: (
        lambda reply: texts.at_least(
            len(re.findall(rf"{k['section_spliter'].strip()}\s?\d+", reply)), k["num_sections"]
        )
    ),
    "detectable_format:number_bullet_lists": lambda k: (
        lambda reply: texts.exactly(
            len(re.findall(r"^\s*\*[^*].*$|^\s*-.*$", reply, re.M)), k["num_bullets"]
        )
    ),
    "detectable_format:number_highlighted_sections": lambda k: (
        lambda reply: texts.at_least(_highlights(reply), k["num_highlights"])
    ),
    "detectable_format:title": lambda k: (
        lambda reply: float(any(title.strip("<> ") for title in re.findall(r"<<[^\n]+>>", reply)))
    ),
    "keywords:existence": lambda k: lambda reply: _all_found(reply, k["keywords"]),
    "keywords:forbidden_words": lambda k: lambda reply: _forbidden(reply, k["forbidden_words"]),
    "keywords:frequency": lambda k: (
        lambda reply: _related(
            k["relation"], len(re.findall(k["keyword"], reply, re.IGNORECASE)), k["frequency"]
        )
    ),
    "keywords:letter_frequency": lambda k: (
        lambda reply: _related(
            k["let_relation"], reply.lower().count(k["letter"].lower()), k["let_frequency"]
        )
    ),
    "length_constraints:nth_paragraph_first_word": lambda k: lambda reply: _first_word(reply, k),
    "length_constraints:number_paragraphs": lambda k: (
        lambda reply: _paragraphs(reply, k["num_paragraphs"])
    ),
    "length_constraints:number_sentences": lambda k: (
        lambda reply: _related(k["relation"], len(texts.sentences(reply)), k["num_sentences"])
    ),
    "length_constraints:number_words": lambda k: (
        lambda reply: _related(k["relation"], len(re.findall(r"\w+", reply)), k["num_words"])
    ),
    "punctuation:no_comma": lambda k: lambda reply: texts.none_of(reply.count(",")),
    "startend:end_checker": lambda k: (
        lambda reply: float(
            reply.strip().strip('"').lower().endswith(k["end_phrase"].strip().lower())
        )
    ),
    "startend:quotation": lambda k: _quoted,
}
