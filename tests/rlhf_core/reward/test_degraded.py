import random
import re
from collections import Counter
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.reward.degraded import SHARES, degrade

LETTER = "Dear Ann,\n\nthank you:\n- for the cake\n- for the  tea\n\nIt was good.\nYours, Bob"
texts = st.text(alphabet="ab \n\t", max_size=40)
seeds = st.integers(0, 10_000)


@given(text=texts, seed=seeds, kind=st.sampled_from([None, *SHARES]))
def test_a_copy_never_differs_in_white_space_alone(text, seed, kind):
    worse = degrade(text, random.Random(seed), kind)
    assert worse is None if not text.split() else worse.split() != text.split()


@given(text=texts, seed=seeds)
def test_shuffling_leaves_all_white_space_where_it_is(text, seed):
    if len(set(text.split())) > 1:
        worse = degrade(text, random.Random(seed), "shuffled")
        assert Counter(worse.split()) == Counter(text.split())
        assert worse.count("\n") == text.count("\n") and len(worse) == len(text)


@given(text=texts, seed=seeds)
def test_a_cut_copy_is_the_beginning_up_to_the_end_of_a_word(text, seed):
    if len(text.split()) > 1:
        worse = degrade(text, random.Random(seed), "cut")
        assert text.startswith(worse) and re.match(r"\s", text[len(worse) :])


@given(text=texts, seed=seeds)
def test_a_repeated_copy_has_twice_the_words_in_their_own_white_space(text, seed):
    if text.split():
        worse = degrade(text, random.Random(seed), "repeated")
        assert len(worse.split()) == 2 * len(text.split())
        gaps = set(re.findall(r"(?<=\S)\s+(?=\S)", text)) or {" "}
        assert set(re.findall(r"(?<=\S)\s+(?=\S)", worse)) <= gaps


@pytest.mark.parametrize("text", [LETTER, "one\ntwo three\nfour five six\nseven", "kind", "a a\na"])
def test_copies_have_as_many_words_and_line_breaks_as_the_originals_on_average(text):
    rng = random.Random(0)
    copies = [degrade(text, rng) for _ in range(4000)]
    for count in (lambda t: len(t.split()), lambda t: t.count("\n"), len):
        # the error of a mean of 4000 copies is about 1.2% of it
        assert mean(map(count, copies)) == pytest.approx(count(text), rel=0.12, abs=0.05)
