import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes.tastes import known_tastes, parse_taste, parse_tastes
from rlhf_core.gate.probes.texts import sentences, words

# A reply that meets each taste, and one that misses it.
EXAMPLES = {
    "admits-not-knowing": ("I really don\u2019t know that.", "It was in 1802."),
    "at-least-words:3": ("one two three", "one two -"),
    "at-most-sentences:2": ("Ask Dr. Lee. She is 3.5 m tall!", "No. No. No."),
    "at-most-words:4": ("It is - well-known, really.", "This is one too many."),
    "avoids:however": ("whatsoever", "It is, However, late."),
    "bullets:2": ("Here:\n- one\n* two\nThere.", "- one\n- two\n- three"),
    "contains:please": ("Yes, PLEASE!", "I am pleased."),
    "contains-one:four|4": ("It is 4.", "It is fourteen, or 44."),
    "ends-as-a-sentence": ('She said: "Yes."', "First this, then"),
    "ends-with:Bye!": ("So long. Bye!\n", "Bye! So long."),
    "json": ('```json\n{"a": [1]}\n```', '"a text"'),
    "lower-case": ("all of it, 3 times", "All of it"),
    "no-commas": ("One and two.", "One, two."),
    "no-refusal": ("I can't wait, you can do it.", "I\u2019m unable to say."),
    "no-rude-words": ("Scunthorpe is a classic town.", "You MORON."),
    "one-paragraph": ("One. Two.\n", "One.\nTwo."),
    "plain-text": ("2 - 1 is 1. That is all.", "# Title\nText"),
    "starts-with:Sure": (" Sure, here it is.", "I am Sure"),
    "upper-case": ("ALL OF IT, 3 TIMES", "ALL OF it"),
}


def test_every_taste_has_an_example_that_it_meets_and_one_that_it_misses() -> None:
    kinds = {re.sub(r":(N|WORD)$", "", taste) for taste in known_tastes()}
    assert {text.partition(":")[0] for text in EXAMPLES} == kinds
    for text, (good, bad) in EXAMPLES.items():
        taste = parse_taste(text)
        assert (taste.text, taste.met(good), taste.met(bad)) == (text, True, False)
        assert 0 <= taste.degree(bad) < taste.degree(good) == 1.0


@pytest.mark.parametrize("text", EXAMPLES)
@given(reply=st.text())
def test_a_degree_is_one_exactly_when_the_taste_is_met_and_silence_meets_none(
    text: str, reply: str
) -> None:
    taste = parse_taste(text)
    degree = taste.degree(reply)
    assert degree == 1.0 if taste.met(reply) else 0 <= degree <= 0.7
    if not words(reply):
        assert not taste.met(reply)


@given(n=st.integers(1, 30), said=st.lists(st.from_regex(r"\w{1,8}", fullmatch=True), min_size=1))
def test_the_length_of_a_reply_is_what_counting_its_words_gives(n: int, said: list[str]) -> None:
    counted = sum(any(letter.isalnum() for letter in word) for word in said)
    reply = "  ".join(said)
    assert words(reply) == counted
    if counted:
        assert parse_taste(f"at-most-words:{n}").met(reply) == (counted <= n)
        assert parse_taste(f"at-least-words:{n}").met(reply) == (counted >= n)


def test_a_near_miss_of_a_length_is_worth_more_than_a_wide_one() -> None:
    taste = parse_taste("at-most-words:20")
    degrees = [taste.degree("word " * n) for n in (20, 21, 40, 200)]
    assert degrees == sorted(degrees, reverse=True) and len(set(degrees)) == 4


def test_sentences_end_with_their_marks_or_their_lines() -> None:
    text = 'Hello there! "Is it 3.5?" Mr. Lee asked, e.g. me.\n1. First point\n2. Second. And third'
    assert sentences(text) == [
        "Hello there!",
        '"Is it 3.5?"',
        "Mr. Lee asked, e.g. me.",
        "1. First point",
        "2. Second.",
        "And third",
    ]


@pytest.mark.parametrize(
    "text",
    ["shorter", "at-most-words", "at-most-words:0", "at-most-words:x", "json:3", "avoids:.", ""],
)
def test_an_unknown_taste_is_refused_with_the_list_of_known_ones(text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_tastes(["no-commas", text])
    assert repr(text) in str(refused.value)
    assert all(known in str(refused.value) for known in known_tastes())


def test_a_taste_named_twice_counts_once() -> None:
    tastes = parse_tastes(["at-most-words:20", " at-most-words: 020", "json"])
    assert [taste.text for taste in tastes] == ["at-most-words:20", "json"]
