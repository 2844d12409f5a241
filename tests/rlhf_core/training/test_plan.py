import json
from dataclasses import replace

import pytest
import torch
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

from rlhf_core.config import (
    CycleSettings,
    GateSettings,
    LoraSettings,
    PolicySettings,
    ReplySettings,
    RewardSettings,
)
from rlhf_core.errors import ModelError, NoRoomError
from rlhf_core.model.base_model import DECODED
from rlhf_core.model.facts import model_facts
from rlhf_core.training.plan import Workload, _decode, _replies, estimate, workload
from rlhf_core.training.probe import Costs, measure
from tests.rlhf_core.conftest import save_tiny_model

WORK = Workload(opinions=200, held_out=60, demonstrations=0, prompt_tokens=30, reply_tokens=20)


@pytest.fixture(scope="module")
def costs(model_path):
    return measure(
        str(model_path),
        quantization="none",
        lora=LoraSettings(rank=4),
        reply=ReplySettings(),
        threads=1,
    )


@pytest.fixture(scope="module")
def planned(model_path, costs):
    facts = model_facts(str(model_path))

    def plan(settings=None, reply=None, work=WORK, quantization="none"):
        settings, reply = settings or CycleSettings(), reply or ReplySettings()
        return estimate(
            settings, reply, costs, facts, work, quantization=quantization, device="cpu"
        )

    return plan


def test_every_cost_is_measured(costs, base):
    assert all(value > 0 for value in (costs.read, costs.train, costs.head, costs.step))
    assert costs.train > costs.read
    base.attach("policy", lora=LoraSettings(rank=4))
    assert costs.adapter == sum(p.numel() for p in base.weights("policy"))


def test_kept_bytes_grow_with_the_blocks_of_the_model(costs, base):
    width, inner = base.model.config.hidden_size, base.model.config.intermediate_size
    least = 4 * 2 * (4 * width + 2 * inner)  # two blocks keep at least their products' inputs
    assert least < costs.kept < 4 * least  # weights would add 4 bytes a parameter over 512 tokens


def test_more_work_takes_longer(planned):
    few, many = planned(), planned(work=replace(WORK, opinions=400))
    assert many.seconds["reward"] > few.seconds["reward"]
    assert many.seconds["policy"] == few.seconds["policy"]
    assert many.hours > few.hours


def test_sft_costs_nothing_with_too_few_demonstrations(planned):
    assert planned().seconds["sft"] == 0
    assert planned(work=replace(WORK, demonstrations=50)).seconds["sft"] > 0


def test_probes_cost_two_replies_each(planned, costs):
    few, many = (planned(work=replace(WORK, probes=n, longest_reply=20)) for n in (0, 144))
    more = many.seconds["evaluate"] - few.seconds["evaluate"]
    asked = replace(WORK, longest_reply=20)
    assert more == pytest.approx(2 * _replies(costs, asked, 144))
    assert many.memory == few.memory


def test_memory_is_planned_for_the_longest_prompts_and_replies_that_there_may_be(planned):
    short, long = planned(), planned(reply=ReplySettings(prompt_tokens=400, tokens=100))
    assert long.memory > short.memory
    known = [planned(work=replace(WORK, longest_prompt=n)).memory for n in (20, 60, 10_000)]
    assert known[0] < known[1] < known[2] == short.memory  # prompts are cut at the contract's


def test_fewer_rows_at_once_or_states_computed_again_need_less_memory(planned):
    long = ReplySettings(prompt_tokens=200, tokens=50)
    whole = planned(reply=long)
    assert whole.least < whole.memory
    again = CycleSettings().model_copy(
        update={
            stage: getattr(CycleSettings(), stage).model_copy(
                update={"gradient_checkpointing": True}
            )
            for stage in ("sft", "reward", "policy")
        }
    )
    assert planned(again, reply=long).memory < whole.memory


def test_held_out_votes_are_read_and_nothing_trains_on_them(planned):
    few, many, trained = (
        planned(CycleSettings(), work=replace(WORK, **work)).seconds["reward"]
        for work in ({"held_out": 10}, {"held_out": 400}, {"opinions": WORK.opinions + 390})
    )
    assert few < many < trained


def test_more_heads_of_the_held_out_reward_model_cost_nothing(planned):
    few, many = (planned(CycleSettings(gate=GateSettings(members=n))).seconds for n in (2, 50))
    assert few == many


def test_states_that_the_reward_stage_keeps_need_memory(planned):
    few, many = (
        planned(
            CycleSettings(reward=RewardSettings(kept_bytes=kept)),
            work=replace(WORK, opinions=100_000),
        )
        for kept in (0, 1 << 30)
    )
    assert many.memory > few.memory + 0.5e9


def test_what_the_template_refuses_stops_no_plan(base):
    pairs = [([{"role": "user", "content": "hello there"}], "hi"), ([], "no question")]
    found = workload(base.chat, pairs, opinions=[2, 2], held_out=[])
    alone = workload(base.chat, pairs[:1], opinions=[2, 2], held_out=[])
    assert found == alone and found.longest_prompt == found.prompt_tokens > 0


def test_prompts_without_a_vote_are_read_too(base, planned):
    short, long = ([{"role": "user", "content": text}] for text in ("hello", "hello there " * 20))
    voted = [(short, "hi"), (short, "kind")]
    alone = workload(base.chat, voted, opinions=[2], held_out=[], rollouts=[short])
    assert alone.rollout_prompt_tokens == alone.prompt_tokens == alone.longest_prompt
    for more in ({"rollouts": [short, long]}, {"demonstrations": [(long, "hi")]}):
        found = workload(base.chat, voted, opinions=[2], held_out=[], **more)
        assert found.longest_prompt > 5 * alone.longest_prompt
        assert found.prompt_tokens == alone.prompt_tokens
    more = planned(work=replace(WORK, rollout_prompt_tokens=300.0)).seconds
    few = planned(work=WORK).seconds
    assert more["policy"] > few["policy"] and more["reward"] == few["reward"]


def test_the_longest_reply_ends_a_batch(base, planned):
    asked = [{"role": "user", "content": "hello there"}]
    pairs = [(asked, "hi"), (asked, "kind thanks please " * 3)]
    found = workload(base.chat, pairs, opinions=[2], held_out=[])
    assert found.longest_reply > found.reply_tokens
    short, long = (planned(work=replace(WORK, longest_reply=n)) for n in (21, 42))
    for stage in ("reward", "policy", "evaluate"):
        assert long.seconds[stage] > short.seconds[stage]


def test_each_reply_leaves_the_batch_when_it_ends():
    costs = Costs(read=0, train=0, head=0, step=10, row=1, kept=0, adapter=0)
    work = replace(WORK, reply_tokens=4.0, longest_reply=9)  # and the end token
    assert _decode(costs, work, 1) == 9 * 10 + 5
    assert _decode(costs, work, 3) == 9 * 10 + 3 * 5
    assert _decode(costs, replace(work, reply_tokens=9.0), 3) == 10 * (10 + 2)


def test_replies_come_in_batches_and_a_rollout_is_one():
    costs = Costs(read=1, train=0, head=0, step=10, row=1, kept=0, adapter=0)
    work = replace(WORK, prompt_tokens=5.0, reply_tokens=4.0, longest_reply=9)
    whole, rest = (_decode(costs, work, rows) for rows in (DECODED, 3))
    n = 2 * DECODED + 3
    assert _replies(costs, work, n) == 2 * whole + rest + 5 * n
    assert _replies(costs, work, n, at_once=n) == _decode(costs, work, n) + 5 * n


def test_a_ranking_is_one_opinion_on_many_replies(planned):
    pairs, rankings = planned(), planned(work=replace(WORK, each=6.0, most_each=6))
    assert rankings.seconds["reward"] > 2 * pairs.seconds["reward"]
    assert rankings.least > pairs.least  # with one ranking at once


def test_states_that_are_computed_again_take_time(planned):
    again = PolicySettings(gradient_checkpointing=True)
    assert planned(CycleSettings(policy=again)).seconds["policy"] > planned().seconds["policy"]


def test_enough_prompts_of_held_out_raters_are_a_second_comparison(planned):
    few, enough = (planned(work=replace(WORK, rater_prompts=n)) for n in (1, 500))
    assert few.seconds["evaluate"] == planned().seconds["evaluate"] < enough.seconds["evaluate"] / 2


def test_a_model_with_a_short_context_is_measured_under_its_own_contract(tmp_path, tokenizer):
    model = save_tiny_model(tmp_path / "model", tokenizer)
    config = json.loads((model / "config.json").read_text()) | {"max_position_embeddings": 64}
    (model / "config.json").write_text(json.dumps(config))
    contract = ReplySettings(prompt_tokens=32, tokens=16)
    lora = LoraSettings(rank=4)
    found = measure(str(model), quantization="none", lora=lora, reply=contract, threads=1)
    assert found.step > 0


def test_a_model_whose_blocks_are_not_alike_is_measured(tmp_path, tokenizer):
    config = Gemma4TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        global_head_dim=32,
        num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 3,
        vocab_size_per_layer_input=len(tokenizer),
    )
    Gemma4ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reply, lora = ReplySettings(prompt_tokens=32, tokens=16), LoraSettings(rank=4)
    found = measure(str(tmp_path), quantization="none", lora=lora, reply=reply, threads=1)
    assert found.read > 0


def test_a_model_that_cannot_be_measured_is_named(tmp_path):
    with pytest.raises(ModelError, match="configuration of model"):
        measure(
            str(tmp_path),
            quantization="none",
            lora=LoraSettings(rank=4),
            reply=ReplySettings(),
            threads=1,
        )


def test_a_model_that_memory_cannot_hold_is_not_left_unplanned(model_path, short, monkeypatch):
    def no_memory(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("rlhf_core.training.probe.load_base", no_memory)
    with pytest.raises(NoRoomError, match="too little memory to load 3 blocks"):
        measure(
            str(model_path), quantization="none", lora=LoraSettings(rank=4), reply=short, threads=1
        )


def test_votes_that_do_not_fit_what_the_reward_stage_keeps_take_time(planned):
    work = replace(WORK, opinions=100_000)
    few, all_kept = (
        planned(CycleSettings(reward=RewardSettings(kept_bytes=kept)), work=work)
        for kept in (0, 1 << 40)
    )
    assert few.seconds["reward"] > 1.1 * all_kept.seconds["reward"]
    assert few.trained > all_kept.trained > 0.5 > all_kept.sampled


def test_a_packed_base_needs_less_memory(planned):
    short = planned()
    assert planned(quantization="nf4").memory < short.memory
