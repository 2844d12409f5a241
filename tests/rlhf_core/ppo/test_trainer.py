"""The trainer: its contract with TRL, and its numbers."""

import functools
import inspect
import json
from contextlib import ExitStack, contextmanager

import pytest
import torch
import transformers
import trl
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_core.config import PolicySettings, ReplySettings
from rlhf_core.errors import DivergenceError
from rlhf_core.model import token_batches
from rlhf_core.model.base_model import Base
from rlhf_core.model.decoding import DecodingBatch, Row
from rlhf_core.ppo.advantages import generalized_advantages, token_rewards, whiten
from rlhf_core.ppo.critic import attached_critic
from rlhf_core.ppo.losses import clipped_value_loss, masked_mean
from rlhf_core.ppo.metrics import finished
from rlhf_core.records import Sampling
from rlhf_core.train_policy import PPOTrainer, _config, _dataset
from rlhf_core.training.checkpoints import ResumableTrainer
from rlhf_core.training.stage import QuietTrainer, prepared
from tests.rlhf_core.templates import GEMMA, SMOLLM, TINY

SETTINGS = PolicySettings(
    iterations=2,
    batch_size=8,
    minibatch_size=8,
    epochs=2,
    learning_rate=1e-2,
    warmup_iterations=0,
)


def letters(prompts, responses) -> torch.Tensor:
    """A planted preference: the share of plain letters."""
    return torch.tensor([sum(c in "aeiou" for c in r) / 3 for r in responses])


@pytest.fixture
def prompts(said):
    return [said(text) for text in ("hello", "what is the colour of grass", "yes please", "no")]


@contextmanager
def trainer_of(base, prompts, settings=SETTINGS, *, score=letters, recompute=False, **more):
    """A trainer before its first step."""
    with ExitStack() as stack:
        scratch = stack.enter_context(prepared(base, "policy", recompute=recompute))
        critic = stack.enter_context(attached_critic(base, trained=settings.estimator == "gae"))
        trainer = PPOTrainer(
            base,
            score,
            critic=critic,
            settings=settings,
            demonstrations=[],
            args=_config(base, settings, output_dir=scratch, seed=0),
            train_dataset=_dataset(prompts, settings),
            **more,
        )
        trainer.current_gradient_accumulation_steps = 1
        yield trainer


@pytest.fixture
def training(prompts, disturb):
    """Makes a trainer of a base; its policy differs from the bare base."""
    with ExitStack() as stack:

        def train(base):
            base.attach("policy")
            disturb(base, "policy", size=0.05)
            return stack.enter_context(trainer_of(base, prompts))

        yield train


@pytest.fixture
def trainer(base, training):
    return training(base)


def rollout(trainer, prompts):
    rows = [{"prompt": prompt} for prompt in prompts for _ in range(trainer.settings.group_size)]
    return trainer._generate_and_score_completions(rows)


# Private methods that are overridden, with what TRL's own take.
OF_GRPO = {
    "_generate_and_score_completions": ["self", "inputs"],
    "_compute_loss": ["self", "model", "inputs"],
}
OF_ALL_TRAINERS = {"_send_telemetry": ["self"]}
OF_TRANSFORMERS = {
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_load_rng_state": ["self", "checkpoint"],
}


@pytest.mark.parametrize(
    ("ours", "theirs", "overridden"),
    [
        (PPOTrainer, trl.GRPOTrainer, OF_GRPO),
        (QuietTrainer, trl.GRPOTrainer, OF_ALL_TRAINERS),
        (ResumableTrainer, transformers.Trainer, OF_TRANSFORMERS),
    ],
    ids=lambda found: getattr(found, "__name__", None),
)
def test_exactly_these_private_methods_are_overridden(ours, theirs, overridden):
    private = {name for name in vars(ours) if name.startswith("_") and name[1] != "_"}
    assert {name for name in private if hasattr(theirs, name)} == overridden.keys()
    for name, parameters in overridden.items():
        assert list(inspect.signature(getattr(theirs, name)).parameters) == parameters


def test_it_is_trls_grpo_trainer():
    assert issubclass(PPOTrainer, trl.GRPOTrainer)
    for name in ("train", "training_step", "_prepare_inputs", "_generate", "_calculate_rewards"):
        assert getattr(PPOTrainer, name) is getattr(trl.GRPOTrainer, name)


def test_the_pass_that_is_called_still_takes_what_it_took():
    method = trl.GRPOTrainer._get_per_token_logps_and_entropies
    first = ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    assert list(inspect.signature(method).parameters)[:5] == first


def test_the_network_is_asked_for_what_the_wrapped_forward_gives(trainer, base, prompts):
    network, asked = base.model.get_base_model(), []
    wrapped = network.forward

    @functools.wraps(wrapped)
    def listening(*args, **kwargs):
        if kwargs.get("fused_lm_head"):
            asked.append({name for name, value in kwargs.items() if value is not None})
        return wrapped(*args, **kwargs)

    network.forward = listening
    trainer._compute_loss(trainer.model, rollout(trainer, prompts))
    keys = {"input_ids", "attention_mask", "labels", "fused_lm_head"}
    # the policy's pass, the reference's, one for the critic's first weights, the loss's
    assert asked == [keys] * 4


def test_what_is_read_of_trls_state_is_there(trainer, prompts):
    assert (trainer._step, trainer._buffered_inputs) == (0, None)
    assert set(trainer.eos_token_ids) == trainer._base.ends
    trainer._compute_loss(trainer.model, rollout(trainer, prompts))
    assert len(trainer._metrics["train"]["entropy"]) == 1


def test_a_rollout_has_the_keys_that_both_sides_rely_on(trainer, prompts):
    found = rollout(trainer, prompts)
    assert set(found) == {
        "prompt_ids",
        "prompt_mask",
        "completion_ids",
        "completion_mask",
        "advantages",
        "num_items_in_batch",
        "old_per_token_logps",
        "ref_per_token_logps",
        "values",
        "returns",
    }
    shape = found["completion_ids"].shape
    for key in ("advantages", "old_per_token_logps", "ref_per_token_logps", "values", "returns"):
        assert found[key].shape == shape


def test_logprobs_are_the_policys_and_the_references(trainer, base, prompts):
    found = rollout(trainer, prompts)
    mask = found["completion_mask"].bool()
    replies = [row[m].tolist() for row, m in zip(found["completion_ids"], mask, strict=True)]
    doubled = [prompt for prompt in prompts for _ in range(2)]
    for key, adapter in (("old_per_token_logps", "policy"), ("ref_per_token_logps", None)):
        expected = torch.cat(base.logprobs(doubled, replies, adapter=adapter))
        assert_close(found[key][mask], expected, atol=1e-4, rtol=1e-4)
    assert not torch.equal(found["old_per_token_logps"], found["ref_per_token_logps"])


def test_logprobs_are_float32_where_the_network_computes_in_bfloat16(base, prompts):
    base.model.to(torch.bfloat16)
    base.attach("policy")
    with trainer_of(base, prompts) as trainer:
        found = rollout(trainer, prompts)
        trainer._passes, trainer._kept_of_states = [], lambda states: states
        trainer._logprobs(found)
        logprobs, states = trainer._passes[0]  # (B, T), (B, T, d)
    mask = found["completion_mask"].bool()
    head = base.model.get_output_embeddings().weight
    assert head.dtype == torch.bfloat16
    logits = states[mask].double() @ head.double().T  # (N, V)
    exact = logits.log_softmax(-1).gather(1, found["completion_ids"][mask][:, None])[:, 0]
    assert_close(logprobs[mask].double(), exact, atol=1e-4, rtol=0)
    rounded = logits.bfloat16().double().log_softmax(-1)
    rounded = rounded.gather(1, found["completion_ids"][mask][:, None])[:, 0]
    assert (rounded - exact).abs().max() > 1e-3  # in bfloat16 it would be farther off


def test_advantages_come_from_scores_kl_and_values(trainer, prompts, tokenizer):
    found = rollout(trainer, prompts)
    mask = found["completion_mask"].bool()
    texts = tokenizer.batch_decode(
        [row[m] for row, m in zip(found["completion_ids"], mask, strict=True)],
        skip_special_tokens=True,
    )
    finished = (found["completion_ids"] * mask == tokenizer.eos_token_id).any(1)
    rewards = token_rewards(
        letters([], texts) - 1.0 * ~finished,
        found["old_per_token_logps"],
        found["ref_per_token_logps"],
        mask,
        kl_coef=0.1,
    )
    advantages, returns = generalized_advantages(
        rewards, found["values"], mask, gamma=1.0, lam=SETTINGS.lam
    )
    assert_close(found["advantages"], whiten(advantages, mask))
    assert_close(found["returns"], returns)


def test_rollouts_are_sampled_from_the_distribution_whose_logprobs_they_have(
    load_tiny, training, prompts
):
    """Nothing that the model's own generation config says may change what is sampled."""
    leaks = {"repetition_penalty": 5.0, "top_k": 1, "no_repeat_ngram_size": 1}
    trainer = training(load_tiny(TINY, do_sample=True, suppress_tokens=[40], **leaks))
    base, doubled = trainer._base, [prompt for prompt in prompts for _ in range(2)]
    torch.manual_seed(3)
    found = rollout(trainer, prompts)
    torch.manual_seed(3)
    seeds = torch.randint(2**62, (len(doubled),)).tolist()
    sampling = Sampling(base.reply.rollout_temperature, 1.0, base.reply.tokens)
    rows = [
        Row(base.chat.encode_prompt(p), "policy", sampling, seed)
        for p, seed in zip(doubled, seeds, strict=True)
    ]
    taken = [[] for _ in rows]
    batch = DecodingBatch(base)
    batch.admit(rows)
    while batch.rows:
        going, logprobs = list(batch.rows), (batch._logits / sampling.temperature).log_softmax(-1)
        batch.sample()
        for row, own in zip(going, logprobs, strict=True):
            taken[rows.index(row)].append(own[row.ids[-1] if row.end is None else row.end])
        batch.advance()
    ids = [row.ids if row.end is None else [*row.ids, row.end] for row in rows]
    mask = found["completion_mask"].bool()
    sampled = [row[m].tolist() for row, m in zip(found["completion_ids"], mask, strict=True)]
    assert sampled == ids
    expected = base.logprobs(doubled, ids, adapter="policy")
    for own, wanted in zip(taken, expected, strict=True):
        assert_close(torch.stack(own), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [GEMMA, SMOLLM], ids=["own end of turn", "padded with the end"])
def test_a_rollout_stops_at_any_end_and_padding_is_no_part_of_it(
    load_tiny, training, prompts, kind
):
    trainer = training(load_tiny(kind, eos_token_id=list(range(100, 240))))
    ends = trainer._base.ends
    found = rollout(trainer, prompts)
    mask = found["completion_mask"].bool()
    rows = [row[m].tolist() for row, m in zip(found["completion_ids"], mask, strict=True)]
    assert all(ends.isdisjoint(row[:-1]) for row in rows)
    finished = [row[-1] in ends for row in rows]
    assert trainer._noted["val/num_eos_tokens"] == [sum(finished)]
    assert {len(row) for row, done in zip(rows, finished, strict=True) if not done} <= {8}
    assert len({len(row) for row in rows}) > 1  # else nothing was padded
    doubled = [prompt for prompt in prompts for _ in range(2)]
    expected = torch.cat(trainer._base.logprobs(doubled, rows, adapter="policy"))
    assert_close(found["old_per_token_logps"][mask], expected, atol=1e-4, rtol=1e-4)
    assert_close(found["old_per_token_logps"][~mask], torch.zeros((~mask).sum()))


def ppo_loss(found, logprobs, values) -> torch.Tensor:
    """Schulman et al. 2017, eq. 7, written down once more."""
    mask, advantages = found["completion_mask"].bool(), found["advantages"]
    ratio = (logprobs - found["old_per_token_logps"]).exp()
    policy = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    value = clipped_value_loss(values, found["values"], found["returns"], mask, cliprange=0.2)
    return masked_mean(policy, mask) + 0.1 * value


def test_the_loss_is_ppos_clipped_objective_and_nothing_else(trainer, base, prompts, disturb):
    found = rollout(trainer, prompts)
    loss = trainer._compute_loss(trainer.model, found)
    assert_close(loss, ppo_loss(found, found["old_per_token_logps"], found["values"]))
    disturb(base, "policy", seed=1, size=0.05)  # now ratios leave the clip range
    loss = trainer._compute_loss(trainer.model, found)
    logprobs, values = trainer._passes[0]
    ratio = (logprobs - found["old_per_token_logps"]).exp()[found["completion_mask"].bool()]
    assert ((ratio - 1).abs() > 0.2).any()
    assert_close(loss, ppo_loss(found, logprobs, values))


def gradients(trainer) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return found


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


def test_parts_of_unequal_length_give_the_gradients_of_the_undivided_minibatch(trainer, prompts):
    found = rollout(trainer, prompts)
    found["completion_mask"][:2, 2:] = 0  # so the first of the parts has the fewest tokens
    assert len(set(found["completion_mask"].view(4, -1).sum(1).tolist())) > 1
    trainer._compute_loss(trainer.model, found).backward()
    expected = gradients(trainer)
    parts = [{k: v[2 * i : 2 * i + 2] if v.ndim else v for k, v in found.items()} for i in range(4)]
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 4
    trainer._buffered_inputs = parts
    for trainer._step, part in enumerate(parts):
        trainer._compute_loss(trainer.model, part).backward()
    assert_same_gradients(gradients(trainer), expected)


def test_states_that_are_computed_again_give_the_same_gradients(base, prompts, disturb):
    base.attach("policy")
    disturb(base, "policy", size=0.05)
    found = {}
    for recompute in (False, True):
        torch.manual_seed(3)  # of the rollout
        with trainer_of(base, prompts, recompute=recompute) as trainer:
            again = []
            layer = base.model.get_decoder().layers[0].mlp
            hook = layer.register_forward_pre_hook(lambda *_, again=again: again.append(1))
            batch = rollout(trainer, prompts)
            again.clear()
            trainer._compute_loss(trainer.model, batch).backward()
            hook.remove()
            assert len(again) == (2 if recompute else 1)  # once more for the gradients
            found[recompute] = gradients(trainer)
    assert_same_gradients(found[True], found[False])
    assert not base.model.get_base_model().is_activation_checkpointing


def centred(prompts, responses) -> torch.Tensor:
    """Mean 0 and standard deviation 1, as a reward model's scores are."""
    found = torch.tensor([sum(c in "aeiou" for c in r) / max(1, len(r)) for r in responses])
    return (found - found.mean()) / found.std()


@pytest.mark.parametrize("estimator", ["gae", "rloo"])
def test_the_ends_of_long_replies_begin_with_a_mean_advantage_near_zero(
    base, prompts, said, estimator
):
    long = Base(base.model, base.tokenizer, ReplySettings(prompt_tokens=128, tokens=200))
    long.attach("policy")
    settings = PolicySettings(batch_size=64, minibatch_size=64, estimator=estimator, lam=1.0)
    asked = [said(f"{n} sky") for n in range(64 // settings.group_size)]
    torch.manual_seed(0)
    with trainer_of(long, asked, settings, score=centred) as trainer:
        found = rollout(trainer, asked)
        mask = found["completion_mask"].bool()
        ended = finished(found["completion_ids"], mask, trainer.eos_token_ids)
    assert mask.sum(1).float().mean() > 100 and ended.float().mean() < 0.6
    rows, ends = torch.arange(len(mask)), mask.sum(1) - 1
    assert abs(found["advantages"][rows, ends].mean()) < 0.4  # 32 replies of variance near 1
    assert abs(found["advantages"][:, 0].mean()) < 0.4
    rewards = trainer._scores - 1.0 * ~ended
    credit = torch.corrcoef(torch.stack([found["advantages"][:, 0], rewards]))[0, 1]
    assert credit > 0.8  # the first token answers for the whole reply
    # with a critic that expects nothing, and lambda below 1
    rewards = token_rewards(rewards, mask * 0.0, mask * 0.0, mask, kl_coef=0.0)
    cold, _ = generalized_advantages(rewards, mask * 0.0, mask, gamma=1.0, lam=0.95)
    assert whiten(cold, mask)[rows, ends].mean() < -1.5


def test_without_a_critic_there_are_no_values_and_nothing_learns_them(base, prompts):
    base.attach("policy")
    settings = PolicySettings(batch_size=8, minibatch_size=8, estimator="rloo")
    with trainer_of(base, prompts[:2], settings) as trainer:
        found = rollout(trainer, prompts[:2])
        assert found["advantages"].shape == found["completion_ids"].shape
        assert not {"values", "returns"} & found.keys()
        trainer._compute_loss(trainer.model, found).backward()
        assert not [name for name in gradients(trainer) if "critic" in name]


def test_the_critic_is_fitted_once_and_then_learns(trainer, prompts):
    first = rollout(trainer, prompts)
    head = trainer._critic.head.weight.detach().clone()
    mask = first["completion_mask"].bool()
    assert abs(first["values"][mask].mean() - first["returns"][mask].mean()) < 0.1
    trainer.state.global_step = 1
    rollout(trainer, prompts)
    assert torch.equal(trainer._critic.head.weight, head)


def test_the_budget_is_measured_on_some_replies_if_the_anchor_is_not_the_reference(
    base, prompts, disturb
):
    base.attach("policy")
    disturb(base, "policy", size=0.05)
    base.attach("anchor")
    disturb(base, "anchor", seed=1, size=0.05)
    settings = PolicySettings(batch_size=64, minibatch_size=64, kl_budget=1e6)
    with trainer_of(base, prompts, settings, anchor="anchor") as trainer:
        trainer.state.global_step = 1  # the critic has been fitted
        found = rollout(trainer, prompts * 8)
        read = trainer._passes[-1][0]
        assert len(read) == 16
        mask = found["completion_mask"].bool()[::4]
        kl = ((found["old_per_token_logps"][::4] - read) * mask).sum(1).mean().item()
        assert trainer._noted["objective/kl_anchor"] == [pytest.approx(kl, rel=1e-4)]
        assert kl > 0.1


def test_an_anchor_that_is_the_reference_costs_no_pass(base, prompts, disturb):
    base.attach("sft")
    disturb(base, "sft", size=0.05)
    base.copy_adapter("sft", "policy")
    base.copy_adapter("sft", "ref")
    base.copy_adapter("sft", "served")
    with trainer_of(base, prompts, reference="ref", anchor="served") as trainer:
        trainer.state.global_step = 1  # the critic has been fitted
        found = rollout(trainer, prompts)
        assert len(trainer._passes) == 2  # the policy's and the reference's
        assert trainer._noted["objective/kl_anchor"] == [pytest.approx(0, abs=1e-3)]
        assert_close(found["ref_per_token_logps"], found["old_per_token_logps"])


def test_the_loss_trains_the_policy_and_the_critic_alone(trainer, prompts):
    trainer._compute_loss(trainer.model, rollout(trainer, prompts)).backward()
    touched = {n for n, p in trainer.model.named_parameters() if p.grad is not None}
    assert {n.split(".")[0] for n in touched if "critic" in n} == {"critic"}
    assert all(".policy." in name for name in touched if "critic" not in name)
    assert any(".policy." in name for name in touched)


def test_padding_order_and_tokens_per_pass_never_change_a_loss(
    trainer, base, prompts, disturb, monkeypatch
):
    found = rollout(trainer, prompts)
    disturb(base, "policy", seed=1, size=0.02)
    loss = trainer._compute_loss(trainer.model, found)
    noted = {name: values[-1] for name, values in trainer._noted.items()}

    def changed(key: str, value: torch.Tensor, more: int, order: list[int]) -> torch.Tensor:
        if value.ndim < 2:
            return value
        extra = torch.full((len(value), more), 0, dtype=value.dtype)
        left = key.startswith("prompt")
        return torch.cat([extra, value] if left else [value, extra], 1)[order]

    @examples(max_examples=20, deadline=None)
    @given(more=st.integers(0, 5), order=st.permutations(range(8)), tokens=st.integers(1, 400))
    def check(more: int, order: list[int], tokens: int) -> None:
        monkeypatch.setattr(token_batches, "CPU_TOKENS", tokens)
        other = {key: changed(key, value, more, order) for key, value in found.items()}
        assert_close(trainer._compute_loss(trainer.model, other), loss, atol=1e-5, rtol=1e-4)
        for name in ("loss/policy_avg", "loss/value_avg", "policy/approxkl_avg", "val/ratio"):
            assert trainer._noted[name][-1] == pytest.approx(noted[name], abs=1e-5, rel=1e-4)

    check()


def test_the_value_head_has_its_own_learning_rate(trainer):
    policy, head = trainer.optimizer.param_groups
    assert (policy["lr"], head["lr"]) == (1e-2, 1e-3)
    assert [tuple(p.shape) for p in head["params"]] == [(1, 64), (1,)]
    assert all(p.dtype == torch.float32 for p in policy["params"])


def test_prompts_of_several_turns_reach_the_rollout_as_they_are_served(trainer, tokenizer, said):
    prompt = [*said("hello"), {"role": "assistant", "content": "yes"}, *said("no</s> thanks")]
    found = rollout(trainer, [prompt] * 4)
    mask = found["prompt_mask"].bool()
    assert found["prompt_ids"][0][mask[0]].tolist() == trainer._base.chat.encode_prompt(prompt)


def test_what_a_run_depends_on_can_be_kept_and_taken_up(trainer):
    trainer.latest["iterations"] = 4.0
    trainer._mix.random.random()
    kept = json.loads(json.dumps(trainer.state_dict()))
    expected = trainer._mix.random.random()
    trainer.latest = {}
    trainer.load_state(kept)
    assert trainer._mix.random.random() == expected
    assert trainer.latest["iterations"] == 4.0


def test_exploding_ratios_stop_training(trainer, base, prompts, disturb):
    found = rollout(trainer, prompts)
    found["advantages"] = -found["advantages"].abs() - 1.0
    found["old_per_token_logps"] = found["old_per_token_logps"] - 20.0
    with pytest.raises(DivergenceError, match="policy loss has grown"):
        trainer._compute_loss(trainer.model, found)
