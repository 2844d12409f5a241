import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.gate.probes.ifeval import INSTRUCTIONS, read_instructions
from rlhf_core.gate.probes.tastes import COUNTED, PLAIN, WORDED, parse_tastes
from rlhf_core.worlds.checkable.edits import EDITS, rewrite

WORD = st.sampled_from(
    ["sure", "this", "however,", "However", "ask,", "It", "rains;", "(a", "lot)", "**x**", "Dr."]
)
PROSE = st.lists(
    st.tuples(st.lists(WORD, min_size=1, max_size=12), st.sampled_from(["!", "?", ".", ""])),
    min_size=1,
    max_size=5,
).map(lambda parts: "Well " + " ".join(" ".join(said) + mark for said, mark in parts))
ALONE = (
    "at-most-sentences:1", "at-most-words:5", "avoids:however", "contains:please",
    "ends-as-a-sentence", "ends-with:Bye!", "json", "lower-case", "no-commas", "one-paragraph",
    "plain-text", "starts-with:Sure:", "upper-case",
)  # fmt: skip
TOGETHER = ("contains:please", "at-most-words:9", "no-commas", "ends-as-a-sentence", "lower-case")


@pytest.mark.parametrize("taste", ALONE)
@given(reply=PROSE)
def test_a_program_can_meet_any_of_these_tastes_whatever_prose_it_gets(
    taste: str, reply: str
) -> None:
    (wished,) = parse_tastes([taste])
    better = rewrite(reply, [wished])
    assert better is None if wished.met(reply) else better is not None and wished.met(better)


@given(reply=PROSE, count=st.integers(2, len(TOGETHER)))
def test_tastes_are_met_together(reply: str, count: int) -> None:
    tastes = parse_tastes(TOGETHER[:count])
    better = rewrite(reply, tastes)
    if better is None:
        assert all(taste.met(reply) for taste in tastes)
    else:
        assert all(taste.met(better) for taste in tastes)


@given(reply=st.text(), written=st.lists(st.sampled_from((*ALONE, "bullets:2", "no-refusal"))))
def test_what_a_program_cannot_meet_is_left_alone(reply: str, written: list[str]) -> None:
    tastes = parse_tastes(written)
    better = rewrite(reply, tastes)
    assert better is None or (better and all(taste.met(better) for taste in tastes))


def test_whole_sentences_are_kept_where_they_fit() -> None:
    reply = "Boil the water. Add the egg and wait for seven minutes. Then cool it"
    tastes = parse_tastes(["at-most-words:12", "ends-as-a-sentence"])
    assert rewrite(reply, tastes) == "Boil the water. Add the egg and wait for seven minutes."
    assert rewrite(reply, parse_tastes(["at-most-words:2"])) == "Boil the."


def test_bullets_are_made_of_sentences_and_spare_ones_go() -> None:
    (two,) = parse_tastes(["bullets:2"])
    assert rewrite("One. Two. Three.", [two]) == "- One.\n- Two."
    assert rewrite("So:\n- a\n- b\n- c", [two]) == "So:\n- a\n- b"
    assert rewrite("Only one.", [two]) is None


def test_instructions_of_a_prompt_are_met_too() -> None:
    names = ["punctuation:no_comma", "startend:end_checker", "startend:quotation"]
    tastes, _ = read_instructions(names[:2], [{}, {"end_phrase": "Any questions?"}])
    assert rewrite("One, two.", tastes) == "One two. Any questions?"
    tastes, _ = read_instructions(names[2:], [{}])
    assert rewrite("One.", tastes) == '"One."'


def test_every_edit_is_of_a_taste_that_exists() -> None:
    assert EDITS.keys() <= {*PLAIN, *COUNTED, *WORDED, *INSTRUCTIONS}
