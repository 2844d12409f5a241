from dataclasses import replace

import pytest

from rlhf_core.config import CycleSettings, PolicySettings, ReplySettings, RewardSettings
from rlhf_core.errors import InvalidInputError
from rlhf_core.model.facts import MachineFacts, ModelFacts
from rlhf_core.training.profiles import fill, learning_rate, policy_learning_rate, profile_for

SMALL = ModelFacts(134_515_008, 106_168_320, 30, 576, 49_152, 384, 8192)  # SmolLM2-135M
LARGE = ModelFacts(8_030_261_248, 6_979_321_856, 32, 4096, 128_256, 2048, 131_072)  # Llama 3 8B
LAPTOP = MachineFacts("cpu", 16_000_000_000, 8_000_000_000, 4)
GPU = MachineFacts("cuda", 80_000_000_000, 79_000_000_000, 16)


def test_auto_takes_the_gpu_where_there_is_one():
    assert profile_for("auto", SMALL, LAPTOP).name == "cpu"
    assert profile_for("auto", SMALL, GPU).name == "gpu"
    assert profile_for("cpu", SMALL, GPU).name == "cpu"


def test_the_starters_profile_is_the_defaults():
    profile = profile_for("starter", SMALL, LAPTOP)
    assert fill(CycleSettings(), profile.cycle) == CycleSettings()
    assert fill(ReplySettings(), profile.reply) == ReplySettings()


@pytest.mark.parametrize("model", [SMALL, LARGE, replace(SMALL, context=64)])
@pytest.mark.parametrize("machine", [LAPTOP, GPU])
def test_every_profile_gives_settings_that_fit_together_and_the_models_context(model, machine):
    profile = profile_for("auto", model, machine)
    fill(CycleSettings(), profile.cycle)
    assert fill(ReplySettings(), profile.reply).window <= model.context


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_a_profile_that_cannot_be_is_refused(name):
    with pytest.raises(InvalidInputError, match=f"profile '{name}'"):
        profile_for(name, SMALL, LAPTOP)


def test_a_base_that_would_fill_the_memory_is_packed_on_a_cpu():
    assert profile_for("cpu", SMALL, LAPTOP).quantization == "none"
    assert profile_for("cpu", LARGE, LAPTOP).quantization == "nf4"


def test_free_memory_decides_nothing_so_that_server_and_cycle_agree():
    full = replace(LAPTOP, free=1_000_000)
    assert profile_for("auto", SMALL, full) == profile_for("auto", SMALL, LAPTOP)


def test_larger_models_learn_more_slowly():
    starter = PolicySettings().learning_rate
    assert learning_rate(2e-3, 2_100_000) == 2e-3
    assert 3e-4 < learning_rate(2e-3, SMALL.parameters) < 5e-4
    assert policy_learning_rate(192) == starter > policy_learning_rate(SMALL.width) == 2.3e-4
    assert 1e-5 < policy_learning_rate(LARGE.width) < 5e-5
    assert policy_learning_rate(64) == starter  # narrower models are not trained faster


def test_the_score_head_of_a_real_model_begins_at_0_and_moves_scores_as_far_at_any_width():
    small, large = (profile_for("auto", model, GPU).cycle["reward"] for model in (SMALL, LARGE))
    assert small["head_scale"] == large["head_scale"] == 0.0
    assert small["head_learning_rate"] == pytest.approx(4e-3)
    assert large["head_learning_rate"] * LARGE.width == pytest.approx(4e-3 * SMALL.width)


def test_what_somebody_set_stays_also_if_it_is_the_default():
    own = CycleSettings(reward=RewardSettings(members=3), policy=PolicySettings(kl_coef=0.3))
    filled = fill(own, {"reward": {"members": 1, "epochs": 1}, "policy": {"kl_coef": 0.05}})
    assert (filled.reward.members, filled.reward.epochs) == (3, 1)
    assert filled.policy.kl_coef == 0.3


def test_values_that_do_not_fit_what_somebody_set_are_refused():
    set_by_hand = CycleSettings(policy=PolicySettings(batch_size=64))
    with pytest.raises(InvalidInputError, match="batch_size 64 must be a multiple"):
        fill(set_by_hand, {"policy": {"minibatch_size": 48}}).require_fit()
    both = CycleSettings(policy=PolicySettings(batch_size=64, minibatch_size=64))
    assert fill(both, {"policy": {"minibatch_size": 48}}) == both
