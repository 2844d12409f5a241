import pytest
import torch

from rlhf_core.ppo.critic import attached_critic, reward_head
from rlhf_core.reward.reward_model import RewardModel, ScoreModel

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


def test_a_critic_can_start_from_the_reward_members(base):
    members = []
    for k, (mean, sd) in enumerate([(1.0, 2.0), (-1.0, 0.5)]):
        base.attach(f"m{k}")
        members.append(ScoreModel(base, f"m{k}"))
        members[k].mean, members[k].sd = mean, sd
    head = reward_head(RewardModel(base, members, spread_penalty=0.0, max_tokens=64))
    state = torch.randn(4, head.in_features)
    with torch.no_grad():
        scores = [(m.head(state) - m.mean) / m.sd for m in members]
        torch.testing.assert_close(head(state), sum(scores) / 2)
        with attached_critic(base, head) as critic:
            torch.testing.assert_close(critic.head(state), head(state))
            assert critic.head.weight.data_ptr() != head.weight.data_ptr()


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
