"""The next turn of a conversation is read from where the last one ended."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from rlhf_core.model.base_model import Base
from rlhf_core.model.caches import Prefixes, RowCache
from rlhf_core.model.decoding import RESUMED, DecodingBatch, Row
from rlhf_core.records import Sampling

FIRST = [7 + n % 90 for n in range(8 * RESUMED)]
MB = 2**20


@pytest.fixture
def base(loaded_base: Base, disturb: Callable[..., None]) -> Base:
    base = copy.deepcopy(loaded_base)
    base.model.double()
    for seed, name in enumerate(("one", "two")):
        base.attach(name)
        disturb(base, name, seed=seed, size=0.3)
    return base


def row(ids: list[int], *, adapter: str | None = "one", seed: int = 1, tokens: int = 8) -> Row:
    return Row(ids, adapter, Sampling(1.0, 1.0, tokens), seed)


def answered(batch: DecodingBatch, *rows: Row) -> int:
    """Decode rows to their ends; returns how many tokens of their prompts were read."""
    read = 0
    for one in rows:
        batch.resume(one)
    while going := [one for one in rows if one.finish_reason is None]:
        if batch.rows:
            batch.sample()
        read += batch.advance([one for one in going if batch.unread(one)])
    return read


def alone(base: Base, like: Row) -> list[int]:
    same = row(like.prompt_ids, adapter=like.adapter, seed=like.seed)
    answered(DecodingBatch(base), same)
    return same.ids


@pytest.mark.parametrize("adapter", ["one", None])
def test_the_next_turn_reads_what_is_new_and_gets_the_same_reply(
    base: Base, adapter: str | None
) -> None:
    batch = DecodingBatch(base, Prefixes(MB * 100))
    first = row(FIRST, adapter=adapter)
    assert answered(batch, first) == len(FIRST)
    new = [40, 41, 42, 43, 44]
    second = row([*FIRST, *first.ids, *new], adapter=adapter, seed=2)
    assert answered(batch, second) == len(new) + 1  # the last token of a reply was not read
    assert second.ids == alone(base, second)


def test_two_sides_of_a_pair_read_a_prompt_once_also_in_the_middle(base: Base) -> None:
    batch = DecodingBatch(base, Prefixes(MB * 100))
    answered(batch, row(FIRST))
    sides = [row([*FIRST, 40, 41, 42], seed=seed) for seed in (3, 4, 5)]
    assert answered(batch, *sides) == 3
    assert [side.ids for side in sides] == [alone(base, side) for side in sides]


def test_another_adapter_reads_the_prompt_itself(base: Base) -> None:
    batch = DecodingBatch(base, Prefixes(MB * 100))
    answered(batch, row(FIRST))
    other = row(FIRST, adapter="two")
    assert answered(batch, other) == len(FIRST)
    assert other.ids == alone(base, other)


def test_what_was_read_by_an_adapter_that_is_gone_is_forgotten(base: Base) -> None:
    prefixes = Prefixes(MB * 100)
    batch = DecodingBatch(base, prefixes)
    answered(batch, row(FIRST))
    prefixes.forget("one")
    assert answered(batch, row(FIRST)) == len(FIRST)


def test_rows_that_share_little_are_read_together(base: Base) -> None:
    batch = DecodingBatch(base, Prefixes(MB * 100))
    answered(batch, row(FIRST[: RESUMED // 2]))
    new = row([*FIRST[: RESUMED // 2], 3])
    assert answered(batch, new) == RESUMED // 2 + 1


def layers(tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    part = torch.zeros(1, 1, tokens, 4)
    return [(part, part)]


texts = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["one", "two", None]), texts)),
    texts,
    st.sampled_from([0, 100, 500, MB]),
)
def test_what_is_kept_has_room_and_the_longest_beginning_is_found(
    said: list[tuple[str | None, list[int]]], prompt: list[int], room: int
) -> None:
    prefixes = Prefixes(room)
    kept: list[tuple[str | None, list[int]]] = []
    for adapter, ids in said:
        prefixes.keep(adapter, ids, layers(len(ids)))
        kept.append((adapter, ids))
        assert prefixes.bytes <= room
    found = prefixes.longest("one", prompt)
    best = max(
        (
            sum(1 for n in range(len(prompt)) if prompt[: n + 1] == ids[: n + 1])
            for adapter, ids in kept
            if adapter == "one"
        ),
        default=0,
    )
    count = 0 if found is None else found[0]
    assert count <= min(best, len(prompt) - 1)
    if room == MB:
        assert count == min(best, len(prompt) - 1)


def of_tokens(rows: list[list[int]]) -> DynamicCache:
    """A cache of two layers whose keys are these tokens, to the right; values are twice as much."""
    width = max(map(len, rows))
    keys = torch.tensor([[0.0] * (width - len(row)) + row for row in rows])[:, None, :, None]
    cache = DynamicCache()
    for place in (0, 1):
        cache.update(keys, 2 * keys, place)
    return cache


batches = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=4)
acts = st.one_of(
    st.tuples(st.just("join"), batches),
    st.tuples(st.just("step"), st.integers(1, 9)),
    st.tuples(st.just("drop"), st.sets(st.integers(0, 9))),
)


@settings(deadline=None)
@given(batches, st.lists(acts, max_size=12), st.integers(1, 4))
def test_rows_that_join_and_leave_keep_their_own_keys(
    first: list[list[int]], done: list[tuple[str, Any]], room: int
) -> None:
    rows = [list(row) for row in first]
    cache = RowCache(of_tokens(rows), room=room)
    for act, what in done:
        if act == "join":
            cache.join(of_tokens(what), room=room)
            rows += [list(row) for row in what]
        elif act == "step":
            new = torch.tensor([float(what + place) for place in range(len(rows))])
            for place in (0, 1):
                cache.update(new[:, None, None, None], 2 * new[:, None, None, None], place)
            rows = [[*row, what + place] for place, row in enumerate(rows)]
        elif staying := [place for place in range(len(rows)) if place not in what]:
            longest = max(len(rows[place]) for place in staying)
            order = cache.drop(staying, cache.layers[0].keys.shape[-2] - longest)
            assert sorted(order) == staying
            rows = [rows[place] for place in order]
        for place, row in enumerate(rows):
            for keys, values in cache.of_row(place, len(row)):
                assert keys.flatten().tolist() == row
                assert values.flatten().tolist() == [2 * token for token in row]
