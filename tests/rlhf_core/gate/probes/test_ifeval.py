import json
from typing import Any

import pytest

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes.ifeval import INSTRUCTIONS, UNCHECKED, read_instructions

# kind, its parameters, a reply that follows it, one that does not
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "less than", "capital_frequency": 2},
        "NASA is here.",
        "NASA AND I",
    ),
    ("change_case:english_capital", {}, "ALL 3.", "ALL but 3."),
    ("change_case:english_lowercase", {}, "all 3.", "All 3."),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a haiku."},
        "write a haiku. Frogs leap.",
        "Sure! Write a haiku.",
    ),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One.\n******\nOne."),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        "[name], [street]",
        "[name], street",
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye. P. S. Hi", "Bye. PS hi"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S hi", "P.S. hi"),
    ("detectable_format:constrained_response", {}, "Well. My answer is no.", "No."),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\na\nSECTION 2\nb",
        "SECTION 1\na\nsection 2\nb",
    ),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n**b**"),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        "*one* and *two*",
        "*one* and * *",
    ),
    ("detectable_format:title", {}, "<<A day>>\nText", "<<>>\nText <A day>"),
    ("keywords:existence", {"keywords": ["tea", "milk"]}, "Milk in Tea", "Tea without"),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "rocks", "A Rock."),
    (
        "keywords:frequency",
        {"relation": "at least", "keyword": "war", "frequency": 2},
        "War and warmth",
        "war",
    ),
    (
        "keywords:letter_frequency",
        {"let_relation": "less than", "letter": "e", "let_frequency": 2},
        "One at a tim.",
        "Every day.",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "First.\n\n'Then, second.",
        "Then.\n\nFirst.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo", "One\n\nTwo"),
    (
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 3},
        "One. Two.",
        "One. Two. Three.",
    ),
    (
        "length_constraints:number_words",
        {"relation": "at least", "num_words": 3},
        "don't go",
        "go on",
    ),
    ("punctuation:no_comma", {}, "One; two.", "One, two."),
    (
        "startend:end_checker",
        {"end_phrase": "Is that ok?"},
        '"Well. is that OK?"',
        "Is that ok? Yes",
    ),
    ("startend:quotation", {}, ' "Yes." ', '"Yes." he said'),
]


def test_all_25_kinds_are_known_and_all_but_the_language_are_checked() -> None:
    assert {name for name, *_ in CASES} == INSTRUCTIONS.keys()
    assert (len(INSTRUCTIONS), len(UNCHECKED)) == (24, 1)


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), CASES)
def test_an_instruction_is_met_or_missed(
    name: str, kwargs: dict[str, Any], good: str, bad: str
) -> None:
    unset = {"num_words": None, "keywords": None}  # as in the copy of IFEval on the hub
    (taste,), unchecked = read_instructions([name], [unset | kwargs])
    assert (taste.met(good), taste.met(bad), taste.met(" \n"), unchecked) == (
        True,
        False,
        False,
        (),
    )
    assert json.loads(taste.parameter or "{}") == kwargs


def test_the_language_of_a_reply_is_named_and_not_guessed() -> None:
    names = ["language:response_language", "punctuation:no_comma"]
    tastes, unchecked = read_instructions(names, [{"language": "kn"}, {}])
    assert [taste.name for taste in tastes] == names[1:] and unchecked == (names[0],)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("keywords:absence", {}),
        ("length_constraints:number_words", {"relation": "at most", "num_words": 3}),
        ("length_constraints:number_words", {"relation": "at least", "num_words": "3"}),
        ("length_constraints:number_words", {}),
        ("keywords:frequency", {"relation": "at least", "keyword": "(", "frequency": 1}),
        ("detectable_format:number_bullet_lists", {"num_bullets": "3"}),
        ("startend:end_checker", {"end_phrase": 3}),
    ],
)
def test_an_instruction_that_is_not_ifevals_is_refused(name: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=name):
        read_instructions([name], [kwargs])


def test_each_instruction_needs_its_parameters() -> None:
    with pytest.raises(InvalidInputError, match="1 instructions with 0 kwargs"):
        read_instructions(["punctuation:no_comma"], [])
