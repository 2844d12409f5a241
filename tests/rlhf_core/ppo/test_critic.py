import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_core.config import PolicySettings
from rlhf_core.ppo.critic import attached_critic, optimizer_of, packed, spread

IDS = torch.arange(5, 25).reshape(2, 10)
PLACES = torch.tensor([0, 0, 1]), torch.tensor([4, 5, 9])


def test_values_are_read_from_the_states_asked_for(base):
    base.attach("policy")
    states = base.model(input_ids=IDS, output_hidden_states=True).hidden_states[-1]
    with attached_critic(base) as critic:
        critic.head.weight.data.normal_()
        with critic.reading(*PLACES):
            logits = base.model(input_ids=IDS).logits
            values = critic.values(critic.states())
        torch.testing.assert_close(values, critic.head(states[PLACES])[:, 0])
    assert logits.shape[:2] == (1, 3)  # the other states went no further


def test_a_pass_that_is_not_read_is_as_it_was(base):
    base.attach("policy")
    before = base.model(input_ids=IDS).logits
    with attached_critic(base) as critic:
        with critic.reading(*PLACES):
            base.model(input_ids=IDS)
        assert torch.equal(base.model(input_ids=IDS).logits, before)


def test_a_new_critic_expects_nothing(base):
    base.attach("policy")
    with attached_critic(base) as critic, critic.reading(*PLACES):
        base.model(input_ids=IDS)
        assert critic.values(critic.states()).abs().sum() == 0


def test_states_are_read_in_float32_whatever_the_network_computes_in(base):
    base.attach("policy")
    base.model.to(torch.bfloat16)
    with attached_critic(base) as critic:
        critic.float()
        with critic.reading(*PLACES), pytest.raises(RuntimeError, match="dtype"):
            base.model(input_ids=IDS)  # a head that is not TRL's refuses to compute in two types
        assert critic.states().dtype == torch.float32


def test_a_critic_that_is_not_trained_has_nothing_to_learn(base):
    base.attach("policy")
    with attached_critic(base, trained=False) as critic:
        groups = optimizer_of(base, critic, PolicySettings()).param_groups
    assert len(groups) == 1
    assert not any(p.requires_grad for p in critic.parameters())


def test_a_critic_that_read_nothing_says_so(base):
    base.attach("policy")
    with attached_critic(base) as critic:
        base.model(input_ids=IDS)  # not reading
        with critic.reading(*PLACES), pytest.raises(RuntimeError, match="read no pass"):
            critic.states()


def test_a_critic_leaves_nothing_behind(base):
    base.attach("policy")
    before = {name for name, _ in base.model.named_parameters()}
    with attached_critic(base):
        assert {name for name, _ in base.model.named_parameters()} > before
    assert {name for name, _ in base.model.named_parameters()} == before
    assert not base.model.get_decoder()._forward_hooks


def rollout(prompts: list[int], responses: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids that name their place, padded like a rollout: prompts left, responses right."""
    before, after = max(prompts), max(responses)
    ids = torch.zeros(len(prompts), before + after, dtype=torch.long)
    attention = torch.zeros_like(ids)
    for i, (p, t) in enumerate(zip(prompts, responses, strict=True)):
        real = slice(before - p, before + t)
        ids[i, real] = torch.arange(p + t) + 100 * (i + 1)
        attention[i, real] = 1
    return ids, attention


sizes = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, tokens=st.integers(1, 60))
def test_every_response_token_is_read_once_at_the_state_before_it(sizes, tokens):
    prompts, responses = [p for p, _ in sizes], [t for _, t in sizes]
    ids, attention = rollout(prompts, responses)
    width = max(responses)
    parts = list(packed(ids, attention, width, tokens=tokens))
    assert all(part.ids.numel() <= tokens or len(part.ids) == 1 for part in parts)
    for part in parts:
        assert part.ids.shape[1] == part.attention.sum(1).max()
        before = part.ids[part.states]
        assert_close(part.targets, before + 1)  # neighbours in what was said
    found = spread([part.targets.float() for part in parts], parts, (len(ids), width))
    assert_close(found, ids[:, -width:].float() * attention[:, -width:])


def test_rows_of_like_length_go_together():
    ids, attention = rollout([2, 2, 2, 2], [6, 1, 6, 1])
    widths = [part.ids.shape[1] for part in packed(ids, attention, 6, tokens=16)]
    assert widths == [3, 8]


def test_what_is_spread_keeps_its_gradient():
    ids, attention = rollout([2, 1], [1, 3])
    parts = list(packed(ids, attention, 3, tokens=1))
    values = [torch.ones(len(part.targets), requires_grad=True) for part in parts]
    (spread(values, parts, (2, 3)) * torch.arange(6.0).view(2, 3)).sum().backward()
    grads = torch.cat([v.grad for v in values])
    assert sorted(grads.tolist()) == [0.0, 3.0, 4.0, 5.0]
