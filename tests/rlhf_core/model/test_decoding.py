"""A row gives the same reply alone and beside others that join and leave."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.errors import DivergenceError
from rlhf_core.model import token_batches
from rlhf_core.model.base_model import Base
from rlhf_core.model.decoding import LIKELIEST, DecodingBatch, Row, draw, let_join
from rlhf_core.model.token_batches import CPU_PROMPTS, CPU_TOKENS
from rlhf_core.records import Sampling
from tests.rlhf_core.templates import TINY

PROMPTS = ["hi", "a much longer prompt than the others", "what?", "tell me of the sea and the sky"]
LENGTHS = [24, 5, 40, 16]
ADAPTERS = ["one", None, "two", "one"]


@pytest.fixture
def base(loaded_base: Base, disturb: Callable[..., None]) -> Base:
    """In float64: in float32 the number of rows decides how sums are rounded."""
    base = copy.deepcopy(loaded_base)
    base.model.double()
    for seed, name in enumerate(("one", "two")):
        base.attach(name)
        disturb(base, name, seed=seed, size=0.3)
    return base


def row(base: Base, i: int, *, temperature: float = 0.0) -> Row:
    prompt = base.chat.encode_prompt([{"role": "user", "content": PROMPTS[i]}])
    return Row(prompt, ADAPTERS[i], Sampling(temperature, 1.0, LENGTHS[i]), seed=i)


def generated(base: Base, like: Row) -> list[int]:
    """What transformers' own `generate` gives, with the end token."""
    with base.using(like.adapter), torch.no_grad():
        ids = torch.tensor([like.prompt_ids])
        length = like.sampling.max_new_tokens
        out = base.model.generate(input_ids=ids, max_new_tokens=length, do_sample=False)
    return out[0, ids.shape[1] :].tolist()


def run(batch: DecodingBatch, arrivals: dict[int, list[Row]]) -> None:
    step = 0
    while batch.rows or any(at >= step for at in arrivals):
        if step in arrivals:
            batch.admit(arrivals[step])
        if batch.rows:
            batch.sample()
            batch.advance()
        step += 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_gives_the_same_reply_alone_and_beside_others(base: Base, temperature: float) -> None:
    alone = [row(base, i, temperature=temperature) for i in range(4)]
    for single in alone:
        run(DecodingBatch(base), {0: [single]})
    together = [row(base, i, temperature=temperature) for i in range(4)]
    run(DecodingBatch(base), {0: together[:2], 3: [together[2]], 9: [together[3]]})
    assert [r.ids for r in together] == [r.ids for r in alone]
    assert all(len(r.ids) > 3 for r in together)


def test_greedy_rows_equal_the_models_own_generate(base: Base) -> None:
    for i in range(4):
        mine = row(base, i)
        run(DecodingBatch(base), {0: [mine]})
        assert mine.ids + [end for end in [mine.end] if end is not None] == generated(base, mine)


def test_rows_stop_at_every_end_that_the_model_declares(load_tiny: Callable[..., Base]) -> None:
    declared = list(range(20, 60))
    base = load_tiny(TINY, eos_token_id=declared)
    assert base.ends == {base.tokenizer.eos_token_id, *declared}
    reasons = []
    for i in range(4):
        mine = row(base, i)
        mine.adapter = None
        run(DecodingBatch(base), {0: [mine]})
        assert base.ends.isdisjoint(mine.ids)
        ended = mine.finish_reason == "stop"
        assert ([*mine.ids, mine.end] if ended else mine.ids) == generated(base, mine)
        assert (mine.end in base.ends) is ended
        reasons.append(mine.finish_reason)
    assert "stop" in reasons


def test_adapters_and_seeds_change_the_reply(base: Base) -> None:
    def reply(adapter: str, seed: int) -> list[int]:
        one = row(base, 3, temperature=1.0)
        one.adapter, one.seed = adapter, seed
        run(DecodingBatch(base), {0: [one]})
        return one.ids

    known = reply("one", 1)
    assert reply("one", 1) == known
    assert reply("two", 1) != known
    assert reply("one", 2) != known


def test_a_long_prompt_does_not_pad_the_short_ones(base: Base) -> None:
    sizes: list[int] = []
    base.model.register_forward_pre_hook(
        lambda _module, _args, named: sizes.append(named["input_ids"].numel()), with_kwargs=True
    )
    batch = DecodingBatch(base)
    lengths = (300, *[10] * 70)
    prompts = [[5 + k, *[5] * (n - 1)] for k, n in enumerate(lengths)]
    batch.admit([Row(ids, "one", Sampling(0.0, 1.0, 2), 0) for ids in prompts])
    assert len(batch.rows) == 71
    assert sum(sizes) == 300 + 700 and max(sizes) <= CPU_TOKENS


def test_a_prompt_that_several_rows_answer_is_read_once(base: Base) -> None:
    alone = [row(base, i, temperature=1.0) for i in (0, 1)]
    for single in alone:
        run(DecodingBatch(base), {0: [single]})
    sizes: list[int] = []
    base.model.register_forward_pre_hook(
        lambda _module, _args, named: sizes.append(named["input_ids"].numel()), with_kwargs=True
    )
    with base.mixing(["one", "two"]):  # which tries two tokens, the first time
        sizes.clear()
    many = [replace(alone[0], ids=[], seed=seed, finish_reason=None) for seed in range(8)]
    many[0].seed = alone[0].seed
    other = replace(alone[1], ids=[], finish_reason=None)
    run(DecodingBatch(base), {0: [*many, other]})
    assert sizes[0] == 2 * max(len(one.prompt_ids) for one in alone)
    assert many[0].ids == alone[0].ids and other.ids == alone[1].ids
    assert len({tuple(one.ids) for one in many}) > 1


def run_in_parts(batch: DecodingBatch, arrivals: dict[int, list[Row]]) -> None:
    """As the engine runs a batch: between two steps it reads a part of the waiting prompts."""
    step, waiting = 0, list[Row]()
    while batch.rows or waiting or any(at >= step for at in arrivals):
        if batch.rows:
            batch.sample()
        waiting += arrivals.get(step, [])
        batch.advance(waiting)
        waiting = [row for row in waiting if batch.unread(row)]
        step += 1


@pytest.fixture(params=[True, False], ids=["joined", "apart"])
def joins(request: pytest.FixtureRequest, base: Base) -> bool:
    """Whether a step and parts of prompts are one pass; each model can do them one by one."""
    return bool(request.param) and let_join(base)


@pytest.mark.parametrize("part", [1, 7, 16, 1000])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_prompt_read_in_parts_beside_others_gives_the_same_reply(
    base: Base, temperature: float, part: int, joins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [row(base, i, temperature=temperature) for i in range(4)]
    for single in alone:
        run(DecodingBatch(base), {0: [single]})
    monkeypatch.setattr(token_batches, "CPU_PROMPTS", part)
    monkeypatch.setattr(token_batches, "CPU_PROMPT", part)
    together = [row(base, i, temperature=temperature) for i in range(4)]
    run_in_parts(
        DecodingBatch(base, joins=joins), {0: together[:2], 3: [together[2]], 9: [together[3]]}
    )
    assert [r.ids for r in together] == [r.ids for r in alone]


def test_short_prompts_go_together_and_a_long_one_in_parts(base: Base, joins: bool) -> None:
    batch = DecodingBatch(base, joins=joins)
    size = CPU_PROMPTS // 4
    short = [Row([5 + k] * size, "one", Sampling(0.0, 1.0, 99), 0) for k in range(8)]
    long = Row([5] * 3 * CPU_PROMPTS, "one", Sampling(0.0, 1.0, 2), 0)
    assert batch.advance([*short, long]) == CPU_PROMPTS and batch.rows == short[:4]
    for one in batch.rows:
        one.ids.append(7)
    assert batch.advance([long, *short[4:]]) == CPU_PROMPTS // 9  # it lets nobody pass
    for one in batch.rows:
        one.ids.append(7)
    part = batch.advance([*short[4:7], long, short[7]]) - 3 * size
    assert 0 < part < CPU_PROMPTS // 9  # what was read makes each token dearer
    assert batch.rows == short[:7]


def test_a_step_and_parts_of_prompts_are_one_pass_of_the_network(base: Base) -> None:
    assert let_join(base)
    sizes: list[int] = []
    base.model.register_forward_pre_hook(
        lambda _module, _args, named: sizes.append(named["input_ids"].numel()), with_kwargs=True
    )
    batch = DecodingBatch(base, joins=True)
    rows = [Row([5 + k] * (3 + k), None, Sampling(0.0, 1.0, 9), 0) for k in range(4)]
    batch.advance(rows[:2])
    batch.sample()
    batch.advance(rows[2:])
    assert sizes == [3 + 4, 2 + 5 + 6]


def test_a_model_whose_layers_do_not_see_all_tokens_reads_apart(base: Base) -> None:
    base.model.config.sliding_window = 4
    assert not let_join(base)
    assert base.model.config._attn_implementation == "sdpa"


def test_a_row_that_ends_while_its_prompt_is_read_leaves_nothing(base: Base, joins: bool) -> None:
    batch = DecodingBatch(base, joins=joins)
    long = Row([5] * 3 * CPU_PROMPTS, "one", Sampling(0.0, 1.0, 2), 0)
    batch.advance([long])
    long.finish_reason = "cancelled"
    batch.advance()
    assert batch.rows == [] and not batch._parts


def test_finished_rows_free_their_columns(base: Base) -> None:
    batch = DecodingBatch(base)
    run(batch, {0: [row(base, 1)], 1: [row(base, 0)]})
    assert batch.rows == []
    batch.admit([row(base, 0)])
    assert batch._mask.shape == (1, len(row(base, 0).prompt_ids))


def test_draw_inverts_the_distribution_at_the_uniform_numbers() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(4, 1)
    tokens = draw(
        logits,
        temperature=torch.ones(4),
        top_p=torch.ones(4),
        uniforms=torch.tensor([0.05, 0.15, 0.59, 0.999999], dtype=torch.float64),
    )
    assert tokens.tolist() == [0, 1, 2, 3]


def test_draw_keeps_only_the_likeliest_up_to_top_p_in_each_row() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(3, 1)
    tokens = draw(
        logits,
        temperature=torch.ones(3),
        top_p=torch.tensor([0.4, 0.5, 1.0]),
        uniforms=torch.full((3,), 0.999999, dtype=torch.float64),
    )
    assert tokens.tolist() == [3, 2, 3]


def test_draw_tells_greedy_whole_sharp_and_flat_rows_of_one_batch_apart() -> None:
    size = 2 * LIKELIEST[-1]
    flat, sharp = torch.zeros(size), torch.zeros(size)
    flat += torch.linspace(0, -0.01, size)  # the likeliest first
    sharp[7], sharp[3] = 20.0, 19.0
    tokens = draw(
        torch.stack([sharp, sharp, flat, flat]),
        temperature=torch.tensor([0.0, 1.0, 1.0, 1.0]),
        top_p=torch.tensor([0.5, 0.9, 1.0, 0.9]),
        uniforms=torch.tensor([0.9, 0.9, 0.5, 0.999999], dtype=torch.float64),
    )
    assert tokens.tolist()[:2] == [7, 3]
    assert abs(tokens[2].item() - size / 2) < 5
    assert abs(tokens[3].item() - 0.9 * size) < 5  # beyond the likeliest few


def test_logits_that_are_not_finite_are_an_error(base: Base) -> None:
    batch = DecodingBatch(base)
    batch.admit([row(base, 0, temperature=1.0)])
    batch._logits[0, 3] = float("nan")
    with pytest.raises(DivergenceError, match="logits of one are not finite"):
        batch.sample()


def test_only_the_adapter_that_gives_them_is_blamed(base: Base) -> None:
    batch = DecodingBatch(base)
    batch.admit([row(base, i, temperature=1.0) for i in range(len(ADAPTERS))])
    broken = [each.adapter == "two" for each in batch.rows]
    batch._logits[torch.tensor(broken)] = float("inf")
    with pytest.raises(DivergenceError, match="logits of two are not finite"):
        batch.sample()


@given(
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([0.1, 1.0, 3.0, 30.0]),
    top_p=st.floats(0.01, 0.999),
    uniform=st.floats(0.0, 1.0, exclude_max=True),
)
def test_draw_finds_the_same_token_as_a_sort_of_the_whole_vocabulary(
    seed: int, spread: float, top_p: float, uniform: float
) -> None:
    """Flat distributions need more than the likeliest few, sharp ones only one of them."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(2, 3 * LIKELIEST[-1], generator=generator, dtype=torch.float64)
    both = torch.full((2,), top_p), torch.full((2,), uniform, dtype=torch.float64)
    tokens = draw(logits, temperature=torch.ones(2), top_p=both[0], uniforms=both[1])
    for own, token in zip(logits.softmax(-1), tokens.tolist(), strict=True):
        probs, order = own.topk(len(own))
        before = probs.double().cumsum(0) - probs
        nucleus = probs[before < both[0][0]].double()
        reached = nucleus.cumsum(0)
        at = order.tolist().index(token)
        assert at < len(nucleus)
        low, high = reached[at] - nucleus[at], reached[at]
        target = uniform * reached[-1]
        assert low - 1e-9 <= target <= high + 1e-9


def test_draw_at_temperature_zero_takes_the_likeliest_beside_sampled_rows() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(2, 1)
    tokens = draw(
        logits,
        temperature=torch.tensor([0.0, 1.0]),
        top_p=torch.ones(2),
        uniforms=torch.tensor([0.0, 0.0], dtype=torch.float64),
    )
    assert tokens.tolist() == [3, 0]
