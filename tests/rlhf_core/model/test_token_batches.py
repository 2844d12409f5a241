from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.model.token_batches import token_batches

lengths_of_rows = st.lists(st.integers(1, 50), max_size=40)


@given(lengths=lengths_of_rows, tokens=st.integers(1, 200))
def test_each_row_is_in_one_batch_and_no_batch_has_more_tokens_than_allowed(lengths, tokens):
    batches = token_batches(lengths, tokens=tokens)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or len(batch) * longest <= tokens


@given(lengths=lengths_of_rows)
def test_no_batch_could_take_the_row_after_it(lengths):
    batches = token_batches(lengths, tokens=100)
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > 100


def test_rows_of_like_length_go_together():
    assert token_batches([9, 2, 9, 2], tokens=18) == [[1, 3], [0, 2]]
