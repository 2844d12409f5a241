from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.config import PolicySettings, SFTSettings
from rlhf_core.errors import DivergenceError
from rlhf_core.model.loading import load_base
from rlhf_core.records import Demonstration
from rlhf_core.train_policy import PPOTrainer, train_policy
from rlhf_core.train_reward import RewardTrainer
from rlhf_core.train_sft import SFTTrainer, train_sft
from rlhf_core.training.stage import QuietTrainer, Stopwatch, passes, prepared, require_finite


@pytest.mark.parametrize("trainer", [PPOTrainer, RewardTrainer, SFTTrainer])
def test_no_trainer_reports_over_the_network(trainer):
    assert trainer._send_telemetry is QuietTrainer._send_telemetry


def test_adapters_of_a_quantized_base_are_trained_in_float32(model_path, said, capfd):
    base = load_base(str(model_path), quantization="nf4", device="cpu")
    base.attach("policy")
    settings = PolicySettings(iterations=1, batch_size=4, minibatch_size=4, epochs=1)
    train_policy(
        base,
        [said("hello")],
        lambda _, responses: torch.zeros(len(responses)),
        adapter="policy",
        reference=None,
        settings=settings,
    )
    train_sft(
        base,
        [Demonstration(said("hello"), "yes")],
        adapter="policy",
        settings=SFTSettings(epochs=1, min_steps=1),
    )
    weights = {p.dtype for n, p in base.model.named_parameters() if ".policy." in n}
    assert weights == {torch.float32}
    assert capfd.readouterr().out == ""  # and nothing is printed on the way


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_stage_starts_from_the_very_weights_that_it_is_given(
    model_path, said, disturb, quantization
):
    base = load_base(str(model_path), quantization=quantization, device="cpu")
    base.attach("policy")
    disturb(base, "policy", size=0.02)
    before = [weight.detach().clone() for weight in base.weights("policy")]
    settings = SFTSettings(epochs=1, min_steps=1, learning_rate=1e-12)
    train_sft(base, [Demonstration(said("hello"), "yes")], adapter="policy", settings=settings)
    for weight, was in zip(base.weights("policy"), before, strict=True):
        torch.testing.assert_close(weight, was, rtol=0, atol=1e-9)


def test_an_error_while_training_leaves_the_base_ready_to_serve(base):
    base.attach("policy")
    with pytest.raises(ZeroDivisionError), prepared(base, "policy") as scratch:
        base.model.get_base_model().forward = None
        raise ZeroDivisionError
    assert base.active is None
    assert not base.model.training
    assert base.model(input_ids=torch.arange(5, 9)[None]).logits.shape == (1, 4, 319)
    assert not Path(scratch).exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_named(bad):
    with pytest.raises(DivergenceError, match="the loss is not finite"):
        require_finite(torch.tensor([0.0, bad]), "the loss")
    assert require_finite(torch.tensor(1.0), "the loss") == 1


def test_a_stopwatch_adds_up_sections():
    watch = Stopwatch()
    for _ in range(2):
        with watch.timed("a"):
            pass
    assert 0 < watch.seconds["a"] <= watch.elapsed()
    assert watch.seconds["b"] == 0


@given(
    rows=st.integers(1, 2000),
    batch_size=st.integers(1, 64),
    epochs=st.integers(1, 8),
    min_steps=st.integers(1, 200),
)
def test_few_rows_get_more_passes_but_never_fewer_than_set(rows, batch_size, epochs, min_steps):
    found = passes(rows, batch_size=batch_size, epochs=epochs, min_steps=min_steps)
    steps_per_pass = -(-rows // batch_size)
    assert found >= epochs
    assert found * steps_per_pass >= min_steps
    assert found == epochs or (found - 1) * steps_per_pass < min_steps
