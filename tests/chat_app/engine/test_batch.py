"""A row gives the same reply alone and beside others that join and leave."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from chat_app.engine import Sampling
from chat_app.engine.batch import DecodingBatch, Row, draw
from rlhf_core.model.base_model import Base
from rlhf_core.records import ChatMessage
from tests.chat_app.serving import tiny_base

PROMPTS = ["hi", "a much longer prompt than the others", "what?", "tell me of the sea and the sky"]
LENGTHS = [24, 5, 40, 16]
ADAPTERS = ["policy-000001", "policy-000000", "policy-000002", "policy-000001"]


@pytest.fixture(scope="module")
def base(tiny_model: Path, tiny_adapters: Path) -> Base:
    base = tiny_base(tiny_model)
    for name in ("policy-000001", "policy-000002"):
        base.attach(name, tiny_adapters / name)
    return base


def row(base: Base, i: int, *, temperature: float = 0.0) -> Row:
    prompt = base.chat.encode_prompt([ChatMessage(role="user", content=PROMPTS[i])])
    sampling = Sampling(temperature, 1.0, LENGTHS[i])
    return Row(prompt, ADAPTERS[i], sampling, seed=i)


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
        prompt = [ChatMessage(role="user", content=PROMPTS[i])]
        adapter = None if ADAPTERS[i] == "policy-000000" else ADAPTERS[i]
        theirs = base.respond(
            [prompt], adapter=adapter, max_new_tokens=LENGTHS[i], temperature=0.0
        )[0]
        ids = list(theirs.token_ids[:-1] if theirs.finished else theirs.token_ids)
        assert mine.ids == ids


def test_rows_stop_at_every_end_that_the_model_declares(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    declared = list(range(20, 60))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": declared}))
    base = tiny_base(tmp_path / "model")
    assert base.ends == {base.tokenizer.eos_token_id, *declared}
    reasons = []
    for i in range(4):
        mine = row(base, i)
        mine.adapter = "policy-000000"
        run(DecodingBatch(base), {0: [mine]})
        asked = [ChatMessage(role="user", content=PROMPTS[i])]
        [theirs] = base.respond([asked], adapter=None, max_new_tokens=LENGTHS[i], temperature=0.0)
        assert base.ends.isdisjoint(mine.ids)
        assert mine.ids == [token for token in theirs.token_ids if token not in base.ends]
        assert (mine.finish_reason == "stop") is theirs.finished
        reasons.append(mine.finish_reason)
    assert "stop" in reasons


def test_adapters_and_seeds_change_the_reply(base: Base) -> None:
    def reply(adapter: str, seed: int) -> list[int]:
        one = row(base, 3, temperature=1.0)
        one.adapter, one.seed = adapter, seed
        run(DecodingBatch(base), {0: [one]})
        return one.ids

    known = reply("policy-000001", 1)
    assert reply("policy-000001", 1) == known
    assert reply("policy-000002", 1) != known
    assert reply("policy-000001", 2) != known


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
        uniforms=torch.zeros(3, dtype=torch.float64),
    )
    assert tokens.tolist() == [3, 2, 0]


def test_draw_at_temperature_zero_takes_the_likeliest_beside_sampled_rows() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(2, 1)
    tokens = draw(
        logits,
        temperature=torch.tensor([0.0, 1.0]),
        top_p=torch.ones(2),
        uniforms=torch.tensor([0.0, 0.0], dtype=torch.float64),
    )
    assert tokens.tolist() == [3, 0]
