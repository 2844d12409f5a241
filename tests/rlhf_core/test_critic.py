import pytest
import torch

from rlhf_core.critic import attached_critic

IDS = torch.arange(5, 25).reshape(2, 10)


def test_values_are_read_from_the_state_before_each_token(base):
    base.attach("policy")
    with attached_critic(base) as critic:
        critic.head.weight.data.normal_()
        with critic.listening():
            output = base.model(input_ids=IDS, output_hidden_states=True)
            values = critic.values(4)
        expected = critic.head(output.hidden_states[-1])[:, 5:9, 0]
    torch.testing.assert_close(values, expected)


def test_several_passes_make_one_batch(base):
    base.attach("policy")
    with attached_critic(base) as critic:
        critic.head.weight.data.normal_()
        with critic.listening():
            base.model(input_ids=IDS)
            whole = critic.values(3)
        with critic.listening():
            base.model(input_ids=IDS[:1])
            base.model(input_ids=IDS[1:])
            torch.testing.assert_close(critic.values(3), whole)


def test_a_new_critic_expects_nothing(base):
    base.attach("policy")
    with attached_critic(base) as critic, critic.listening():
        base.model(input_ids=IDS)
        assert critic.values(5).abs().sum() == 0


def test_a_critic_that_heard_nothing_says_so(base):
    base.attach("policy")
    with attached_critic(base) as critic:
        base.model(input_ids=IDS)  # not listening
        with critic.listening(), pytest.raises(RuntimeError, match="heard no pass"):
            critic.values(1)


def test_a_critic_leaves_nothing_behind(base):
    base.attach("policy")
    before = {name for name, _ in base.model.named_parameters()}
    with attached_critic(base):
        assert {name for name, _ in base.model.named_parameters()} > before
    assert {name for name, _ in base.model.named_parameters()} == before
    assert not base.model.get_decoder()._forward_hooks
