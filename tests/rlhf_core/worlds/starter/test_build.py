"""Rows of documents, and the loss that models are built by: what a token sees and what counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlhf_core.worlds.starter.build import UNLEARNT, PackedRow, build_tokenizer, loss_of, rows

ROWS = [
    PackedRow([3, 4, 5, 6, 7, 0], [0, 0, 1, 1, 1, 2], [3, 4, 5, 6, 7, UNLEARNT]),
    PackedRow([5, 5, 4, 3, 0, 0], [0] * 6, [5, 5, 4, 3, UNLEARNT, UNLEARNT]),
]


WORDS = [f"word{n}" for n in range(30)]
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(WORDS * 9, vocabulary=300, marks=["<|right|>"])


@given(texts)
def test_documents_stay_whole_and_in_order_and_the_last_row_waits_for_more(
    tokenizer: PreTrainedTokenizerFast, written: list[str]
) -> None:
    found = []
    for row in rows(tokenizer, written, tokens=40):
        assert len(row.tokens) == len(row.documents) == len(row.labels) == 40
        inside: dict[int, list[int]] = {n: [] for n in row.documents}
        for _, number, label in zip(*row, strict=True):
            if label != UNLEARNT:
                inside[number].append(label)
        found += [tokenizer.decode(ids) for ids in inside.values() if ids]
    assert found == written[: len(found)]
    assert sum(len(tokenizer(text).input_ids) for text in written[len(found) :]) <= 40


def test_of_a_marked_document_the_marks_alone_are_learnt(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    (mark,) = tokenizer("<|right|>").input_ids
    row = next(
        rows(tokenizer, ["word1 word2", "word3<|right|>", "word4" * 40], tokens=40, marks=[mark])
    )
    plain, marked = (tokenizer(text).input_ids for text in ("word1 word2", "word3"))
    learnt = [*plain, *[UNLEARNT] * len(marked), mark]
    assert row.labels == learnt + [UNLEARNT] * (40 - len(learnt))
    assert row.tokens[: len(learnt)] == [*plain, *marked, mark]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=1.0,
            pad_token_id=0,
        )
    )


def of_each(model: LlamaForCausalLM, row: list[int]) -> Tensor:
    """The loss of every token of a document but the first."""
    logits = model(input_ids=torch.tensor([row])).logits[0, :-1]
    return -logits.log_softmax(-1)[range(len(row) - 1), row[1:]]


@torch.no_grad()
def test_the_loss_is_the_models_own_and_padding_has_none(model: LlamaForCausalLM) -> None:
    ids = torch.tensor([row.tokens for row in ROWS])
    assert_close(
        loss_of(model, ROWS), model(input_ids=ids, labels=ids.masked_fill(ids.eq(0), -100)).loss
    )


@torch.no_grad()
def test_what_is_unlearnt_has_no_loss(model: LlamaForCausalLM) -> None:
    row = PackedRow(ROWS[1].tokens, ROWS[1].documents, [5, UNLEARNT, 4, *[UNLEARNT] * 3])
    assert_close(loss_of(model, [row]), of_each(model, row.tokens[:4])[1])


@torch.no_grad()
def test_a_token_counts_as_much_as_its_weight_says(model: LlamaForCausalLM) -> None:
    row = ROWS[1].tokens[:4]
    weights = torch.ones(8)
    weights[4] = 10
    first, heavy, last = of_each(model, row)
    expected = (first + 10 * heavy + last) / 12
    assert_close(loss_of(model, ROWS[1:], weights=weights), expected)


@torch.no_grad()
def test_documents_apart_do_not_see_each_other(model: LlamaForCausalLM) -> None:
    other = [PackedRow([5, 3, *ROWS[0].tokens[2:]], ROWS[0].documents, [5, 3, *ROWS[0].labels[2:]])]
    # the first document's second token, and the second's first, which follows the first's last
    changed = [loss_of(model, one, apart=True) * 4 for one in (ROWS[:1], other)]
    inside = of_each(model, ROWS[0].tokens[2:5]).sum()
    for row, found in zip((ROWS[0], other[0]), changed, strict=True):
        begun = model(input_ids=torch.tensor([row.tokens[:2]])).logits[0].log_softmax(-1)
        assert_close(found, inside - begun[0, row.tokens[1]] - begun[1, row.tokens[2]])
