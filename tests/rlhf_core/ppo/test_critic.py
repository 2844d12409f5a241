import pytest
import torch

from rlhf_core.ppo.critic import attached_critic

IDS = torch.arange(5, 25).reshape(2, 10)
PLACES = torch.tensor([0, 0, 1]), torch.tensor([4, 5, 9])


def test_values_are_read_from_the_states_asked_for(base):
    base.attach("policy")
    states = base.model(input_ids=IDS, output_hidden_states=True).hidden_states[-1]
    with attached_critic(base) as critic:
        critic.head.weight.data.normal_()
        with critic.reading(*PLACES):
            logits = base.model(input_ids=IDS).logits
            values = critic.values()
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
        assert critic.values().abs().sum() == 0


def test_a_critic_that_read_nothing_says_so(base):
    base.attach("policy")
    with attached_critic(base) as critic:
        base.model(input_ids=IDS)  # not reading
        with critic.reading(*PLACES), pytest.raises(RuntimeError, match="read no pass"):
            critic.values()


def test_a_critic_leaves_nothing_behind(base):
    base.attach("policy")
    before = {name for name, _ in base.model.named_parameters()}
    with attached_critic(base):
        assert {name for name, _ in base.model.named_parameters()} > before
    assert {name for name, _ in base.model.named_parameters()} == before
    assert not base.model.get_decoder()._forward_hooks
