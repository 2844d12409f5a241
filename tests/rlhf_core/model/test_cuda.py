"""A Llama of over a billion random weights through every stage on one GPU; `make test-gpu`.

Figures for docs/results.md: `make test-gpu ARGS="--junitxml=gpu.xml"` writes them down.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf_core.config import PolicySettings, RewardSettings, SFTSettings
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Demonstration
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.train_sft import train_sft

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand"),
]
SIZES = {
    "vocab_size": 32_000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
BFLOAT16 = 2  # bytes
SFT = SFTSettings(epochs=1, min_steps=1, batch_size=2)
REWARD = RewardSettings(members=1, epochs=1, min_steps=1, batch_size=4, learning_rate=1e-4)
PPO = PolicySettings(iterations=1, batch_size=8, minibatch_size=8, learning_rate=1e-5)


@pytest.fixture(scope="module")
def large(tmp_path_factory, tokenizer) -> Iterator[tuple[Base, int]]:
    """The base in nf4, loaded from disk as any other is, and how many weights it has."""
    path = tmp_path_factory.mktemp("large")
    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    network = LlamaForCausalLM(config).to(torch.bfloat16)
    weights = network.num_parameters()
    network.save_pretrained(path)
    del network
    tokenizer.save_pretrained(path)
    yield load_base(str(path), device="cuda"), weights
    torch.cuda.empty_cache()


@pytest.fixture
def roles(large) -> Iterator[Base]:
    """A policy and its reference on the base; the adapters are gone afterwards."""
    base, _ = large
    base.attach("policy")
    base.copy_adapter("policy", "sft")
    yield base
    for name in list(base.adapters):
        base.drop(name)


@pytest.fixture
def weights_of() -> Callable[[Base, str], dict[str, torch.Tensor]]:
    def found(base: Base, name: str) -> dict[str, torch.Tensor]:
        return {k: p.detach().clone() for k, p in base.model.named_parameters() if name in k}

    return found


def test_a_billion_weights_load_in_four_bits(large):
    base, weights = large
    linear = [m for m in base.model.modules() if isinstance(m, Linear4bit)]
    assert weights > 1e9
    assert len(linear) == 7 * SIZES["num_hidden_layers"]
    held = sum(p.numel() * p.element_size() for p in base.model.parameters())
    assert held < 0.4 * weights * BFLOAT16


def test_responses_are_the_same_again_and_their_log_probabilities_those_of_one_row(large, said):
    base, _ = large
    prompts = [said("what is red"), said("hello please thanks the colour of grass")]
    first = base.respond(prompts, adapter=None, max_new_tokens=16, seed=1)
    assert first == base.respond(prompts, adapter=None, max_new_tokens=16, seed=1)
    ids = [response.token_ids for response in first]
    together = base.logprobs(prompts, ids, adapter=None)
    alone = [base.logprobs([p], [i], adapter=None)[0] for p, i in zip(prompts, ids, strict=True)]
    assert_close(torch.cat(together), torch.cat(alone), atol=0.1, rtol=0)  # in bfloat16


def test_a_step_of_sft_changes_the_adapter_alone(roles, said, weights_of):
    before, frozen = weights_of(roles, ".policy."), weights_of(roles, "embed_tokens")
    demonstrations = [Demonstration(said("hello"), "kind thanks"), Demonstration(said("red"), "no")]
    metrics = train_sft(roles, demonstrations, adapter="policy", settings=SFT)
    after = weights_of(roles, ".policy.")
    assert 0 < metrics["loss/sft"] < 20
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert_close(weights_of(roles, "embed_tokens"), frozen, atol=0, rtol=0)


def test_a_reward_model_learns_whom_the_votes_prefer(roles, said):
    votes = [Comparison(said(f"what is {n}"), "kind thanks", "rude no", "a") for n in range(8)]
    settings = REWARD.model_copy(update={"min_steps": 20})
    model = train_reward(roles, votes, settings=settings, name="reward")
    prompts = [c.prompt for c in votes]
    assert (model.preference(prompts, ["kind thanks"] * 8, ["rude no"] * 8) > 0.5).all()


def test_an_iteration_of_ppo_with_four_roles_fits_beside_a_third_of_four_bfloat16_models(
    large, roles, said, weights_of, record_property
):
    _, weights = large
    votes = [Comparison(said(f"what is {n}"), "kind", "rude", "a") for n in range(8)]
    reward = train_reward(roles, votes, settings=REWARD, name="reward")
    before = weights_of(roles, ".policy.")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    metrics = train_policy(
        roles,
        [said(f"what is {n}") for n in range(8)],
        reward.score,
        adapter="policy",
        reference="sft",
        settings=PPO,
    )
    peak = torch.cuda.max_memory_allocated() / (4 * weights * BFLOAT16)
    record_property("peak_over_four_models", round(peak, 3))
    record_property("iteration_s", round(metrics["time/iteration_s"], 2))
    assert peak <= 0.35
    assert abs(metrics["objective/kl"]) < 1.0  # nothing has moved yet but bfloat16's rounding
    assert abs(metrics["val/ratio"] - 1) < 0.2
    assert any(not torch.equal(before[k], p) for k, p in weights_of(roles, ".policy.").items())


def test_a_rollout_scored_again_after_ppo_has_the_same_scores(roles, said):
    votes = [Comparison(said(f"what is {n}"), "kind", "rude", "a") for n in range(8)]
    reward = train_reward(roles, votes, settings=REWARD, name="reward")
    scored = []

    def score(prompts, responses):
        scores = reward.score(prompts, responses)
        scored.append((prompts, responses, scores))
        return scores

    prompts = [said("hello"), said("red")]
    train_policy(roles, prompts, score, adapter="policy", reference="sft", settings=PPO)
    assert scored
    for asked, responses, scores in scored:
        assert_close(reward.score(asked, responses), scores, atol=1e-4, rtol=0)
