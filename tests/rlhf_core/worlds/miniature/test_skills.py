"""The five skills: each line has one right continuation."""

import random
import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.worlds.miniature.skills import (
    SHOTS,
    SKILLS,
    Skill,
    endings,
    lexicon,
    practice,
    questions,
)

seeds = st.integers(0, 10_000)


def test_every_word_of_an_invented_language_means_one_thing_in_the_other() -> None:
    assert len(set(lexicon().values())) == len(lexicon())
    assert not set(lexicon()) & set(lexicon().values()) and len(lexicon()) == 256


@pytest.mark.parametrize("skill", SKILLS)
def test_a_question_shows_solved_lines_and_cuts_the_last(skill: Skill) -> None:
    for item in questions(skill, 40, seed=1):
        *shots, asked = item.given.split("\n")
        assert len(shots) == SHOTS and not asked.endswith(item.answer)
        assert item.answer.startswith(" ") and item.answer.strip()
    assert questions(skill, 9, seed=1) == questions(skill, 9, seed=1) != questions(skill, 9, seed=2)


@given(seeds)
def test_a_sum_is_right_and_a_span_is_in_its_line(seed: int) -> None:
    (added,) = questions("sum", 1, seed)
    first, second = map(int, re.findall(r"\d+", added.given.split("\n")[-1]))
    assert int(added.answer) == first + second
    (copied,) = questions("copy", 1, seed)
    told, _, _ = copied.given.split("\n")[-1].partition("; ")
    assert told.endswith(copied.answer)


@given(seeds, st.sampled_from(SKILLS))
def test_practice_is_lines_of_the_pattern(seed: int, skill: Skill) -> None:
    lines = practice(skill, random.Random(seed)).split("\n")
    assert SHOTS < len(lines) <= SHOTS + 3 and all(lines)


@pytest.mark.parametrize(("skill", "table"), [("translate", lexicon), ("ending", endings)])
def test_some_entries_are_practised_often_and_some_hardly_and_all_are_asked_for_equally(
    skill: Skill, table: Callable[[], dict[str, str]]
) -> None:
    practised = Counter(
        entry(line)
        for seed in range(3000)
        for line in practice(skill, random.Random(seed)).split("\n")
    )
    asked = Counter(
        entry(item.given.split("\n")[-1]) for item in questions(skill, 100 * len(table()), seed=1)
    )
    most_used = list(table())
    assert practised[most_used[0]] > 20 * practised[most_used[-1]]
    assert set(asked) == set(table()) and max(asked.values()) < 2 * min(asked.values())


def entry(line: str) -> str:
    """What a line of one of these skills is about: a word, or the first three of a sentence."""
    return line.split(" =")[0] if " =" in line else " ".join(line.split()[:3])
