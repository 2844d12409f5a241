from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from torch import device

from rlhf_core.model.token_batches import next_tokens, together_tokens, token_batches

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


@given(st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 40), st.sampled_from([64, 576]))
def test_a_prompt_always_goes_on_and_never_beyond_its_end(unread, read, rows, width):
    cpu = device("cpu")
    size = next_tokens(cpu, unread=unread, read=read, rows=rows, width=width)
    assert 1 <= size <= min(unread, together_tokens(cpu))
    deeper = next_tokens(cpu, unread=unread, read=read + 500, rows=rows, width=width)
    assert deeper <= size or size == unread


def test_behind_five_widths_of_tokens_half_as_many_go_along():
    sizes = [
        next_tokens(device("cpu"), unread=3000, read=read, rows=8, width=100) for read in (0, 500)
    ]
    assert sizes == [10, 5]
