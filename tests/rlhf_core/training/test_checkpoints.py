"""Stop and go: what a checkpoint holds, what a torn one does; resumed runs end the same."""

import json
import random

import numpy as np
import pytest
import torch

from rlhf_core.config import PolicySettings, RewardSettings, SFTSettings
from rlhf_core.errors import CheckpointError
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Demonstration
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.train_sft import train_sft
from rlhf_core.training.checkpoints import (
    Checkpoint,
    StageFile,
    generator_state,
    random_state,
    read_checkpoint,
    set_random_state,
    write_checkpoint,
)


class Killed(BaseException):
    """Stands in for a kill, which no code of the stage can catch or tidy up after."""


def killed_at(step, total):
    """A progress callback that ends everything at an optimizer step."""

    def tell(share, _metrics):
        if round(share * total) == step:
            raise Killed

    return tell


def weights(base, *adapters):
    return {
        name: p.detach().clone()
        for name, p in base.model.named_parameters()
        if any(f".{adapter}." in name for adapter in adapters)
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys() and found
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)


@pytest.fixture
def fresh(model_path):
    """Makes the same base with the same untrained adapter, as often as asked."""

    def make(*adapters):
        torch.seed()  # another run of the program: what came before must not matter
        base = load_base(str(model_path), quantization="none", device="cpu")
        for adapter in adapters:
            base.attach(adapter)
        return base

    return make


# -- the file -------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    tensors = {"a": torch.randn(3, 2), "b/c": torch.tensor(7), "d": torch.ones(2).bfloat16()}
    write_checkpoint(tmp_path / "x" / "s.safetensors", Checkpoint(tensors, {"n": [1, None, 0.1]}))
    found = read_checkpoint(tmp_path / "x" / "s.safetensors")
    assert found.state == {"n": [1, None, 0.1]}
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())
    assert list(found.part("b")) == ["c"]
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["s.safetensors"]


def test_no_checkpoint_is_no_error(tmp_path):
    assert read_checkpoint(tmp_path / "none.safetensors") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_a_damaged_checkpoint_is_ignored_with_a_warning(tmp_path, damage, caplog):
    file = tmp_path / "s.safetensors"
    write_checkpoint(file, Checkpoint({"a": torch.randn(64)}, {"n": 1}))
    whole = file.read_bytes()
    torn = {
        "cut": whole[:-7],
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "emptied": b"",
        "foreign": b"a text that somebody put there",
    }
    file.write_bytes(torn[damage])
    assert read_checkpoint(file) is None
    assert "is ignored" in caplog.text


def test_a_half_written_file_does_not_disturb_the_next_checkpoint(tmp_path):
    file = tmp_path / "s.safetensors"
    (tmp_path / "s.part").write_bytes(b"half")
    write_checkpoint(file, Checkpoint({"a": torch.ones(2)}, {}))
    assert torch.equal(read_checkpoint(file).tensors["a"], torch.ones(2))


def test_every_random_generator_resumes_its_state():
    own = random.Random(3)
    state = json.loads(json.dumps({"all": random_state(), "own": own.getstate()}))
    drawn = [random.random(), np.random.rand(), torch.rand(2).tolist(), own.random()]
    set_random_state(state["all"])
    own.setstate(generator_state(state["own"]))
    assert [random.random(), np.random.rand(), torch.rand(2).tolist(), own.random()] == drawn


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    file = tmp_path / "s.safetensors"
    StageFile(file, made_of=("data", 1), seconds=0).write({"a": torch.ones(1)}, {})
    assert StageFile(file, made_of=("data", 1), seconds=0).found is not None
    with pytest.raises(CheckpointError, match="other data or settings"):
        StageFile(file, made_of=("data", 2), seconds=0)


# -- SFT ------------------------------------------------------------------------------------

SFT = SFTSettings(epochs=3, min_steps=9, learning_rate=1e-2, batch_size=4, checkpoint_seconds=0)


@pytest.fixture
def imitate(said, tmp_path):
    replies = ("yes please", "no thanks", "kind red", "rude blue", "green")
    demonstrations = [Demonstration(said(f"what is {i}"), replies[i % 5]) for i in range(10)]

    def run(base, *, progress=None, checkpoints=tmp_path, **more):
        return train_sft(
            base,
            demonstrations,
            adapter="policy",
            settings=SFT,
            progress=progress,
            seed=4,
            checkpoints=checkpoints,
            **more,
        )

    return run


@pytest.mark.parametrize("step", [2, 3, 7])  # within a pass, at its end, in a later one
def test_sft_resumes_from_its_last_checkpoint(fresh, imitate, step):
    whole = fresh("policy")
    metrics = imitate(whole, checkpoints=None)
    with pytest.raises(Killed):
        imitate(fresh("policy"), progress=killed_at(step, 9))
    told = []
    resumed = fresh("policy")
    assert imitate(resumed, progress=lambda share, _: told.append(share)) == metrics
    assert_same(weights(resumed, "policy"), weights(whole, "policy"))
    assert told == [n / 9 for n in range(step, 10)]  # the step of the kill had no checkpoint yet


def test_sft_that_has_ended_is_not_trained_again(fresh, imitate):
    first, second, told = fresh("policy"), fresh("policy"), []
    metrics = imitate(first)
    assert imitate(second, progress=lambda share, _: told.append(share)) == metrics
    assert_same(weights(second, "policy"), weights(first, "policy"))
    assert told == []


def test_a_killed_sft_remembers_which_pass_was_best(fresh, imitate, said):
    asked = [said("hello"), said("what is red")]
    given = iter([3.0, 1.0, 2.0])
    scored = {"prompts": asked, "score": lambda p, r: torch.full((len(r),), next(given))}
    with pytest.raises(Killed):
        imitate(fresh("policy"), progress=killed_at(5, 9), **scored)
    metrics = imitate(fresh("policy"), **scored)
    assert (metrics["sft/score"], metrics["sft/passes"]) == (3.0, 1.0)


# -- the reward model -----------------------------------------------------------------------

REWARD = RewardSettings(
    members=2, epochs=2, min_steps=6, batch_size=4, learning_rate=1e-2, checkpoint_seconds=0
)


@pytest.fixture
def learn(said, tmp_path):
    comparisons = [
        Comparison(said(f"what is {i}"), "kind " * (i % 3 + 1), "rude", "a" if i % 4 else "tie")
        for i in range(10)
    ]

    def run(base, *, progress=None, checkpoints=tmp_path):
        return train_reward(
            base,
            comparisons,
            settings=REWARD,
            name="reward",
            progress=progress,
            seed=4,
            checkpoints=checkpoints,
        )

    return run


@pytest.mark.parametrize("step", [2, 3, 5, 9])  # of 12; the second member begins after six
def test_the_reward_model_resumes_from_its_last_checkpoint(fresh, learn, said, step):
    whole, resumed, told, again = fresh(), fresh(), [], []

    def note(steps):
        """The shared layers have no metrics, and are run again."""
        return lambda share, metrics: metrics and steps.append(share)

    expected = learn(whole, progress=note(told), checkpoints=None)
    assert len(told) == 12

    def kill(share, _):
        if share >= told[step - 1]:
            raise Killed

    with pytest.raises(Killed):
        learn(fresh(), progress=kill)
    found = learn(resumed, progress=note(again))
    assert_same(
        weights(resumed, "reward-m0", "reward-m1"), weights(whole, "reward-m0", "reward-m1")
    )
    assert again == told[step - 1 :]
    asked = [said("what is red")] * 2
    torch.testing.assert_close(
        found.member_scores(asked, ["kind", "rude"]),
        expected.member_scores(asked, ["kind", "rude"]),
    )
    assert found.temperature == expected.temperature


# -- the policy -----------------------------------------------------------------------------

POLICY = PolicySettings(
    iterations=4,
    batch_size=8,
    minibatch_size=4,
    micro_batch_size=2,
    epochs=2,
    warmup_iterations=1,
    learning_rate=1e-2,
    ptx_coef=0.1,
    kl_budget=1e9,
    checkpoint_seconds=0,
)


def letters(prompts, responses):
    return torch.tensor([sum(c in "aeiou" for c in r) / 3 for r in responses])


@pytest.fixture
def climb(said, tmp_path):
    prompts = [said(text) for text in ("hello", "what is the colour of grass", "yes please", "no")]
    demonstrations = [Demonstration(said(f"what is {i}"), "yes please") for i in range(5)]

    def run(base, *, progress=None, checkpoints=tmp_path, settings=POLICY):
        metrics = train_policy(
            base,
            prompts,
            letters,
            adapter="policy",
            reference=None,
            settings=settings,
            demonstrations=demonstrations,
            progress=progress,
            seed=4,
            checkpoints=checkpoints,
        )
        return {k: v for k, v in metrics.items() if not k.startswith("time/") and k != "eps"}

    return run


@pytest.mark.parametrize("iteration", [2, 4])
def test_ppo_resumes_from_its_last_checkpoint(fresh, climb, iteration):
    whole, resumed, told = fresh("policy"), fresh("policy"), []
    metrics = climb(whole, checkpoints=None)
    with pytest.raises(Killed):
        climb(fresh("policy"), progress=killed_at(iteration, 4))
    found = climb(resumed, progress=lambda share, _: told.append(round(share * 4)))
    assert_same(weights(resumed, "policy"), weights(whole, "policy"))
    assert told == list(range(iteration, 5))
    assert found == pytest.approx(metrics, abs=1e-5)


def test_ppo_that_stopped_at_its_kl_budget_is_not_started_again(fresh, climb):
    settings = POLICY.model_copy(update={"kl_budget": 1e-9})
    first, second = fresh("policy"), fresh("policy")
    metrics = climb(first, settings=settings)
    assert metrics["kl_stopped"] == 1.0
    assert climb(second, settings=settings) == metrics
    assert_same(weights(second, "policy"), weights(first, "policy"))
