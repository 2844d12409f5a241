import random

import pytest
import torch
import trl
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.config import RewardSettings
from rlhf_core.errors import DivergenceError, NotEnoughDataError
from rlhf_core.records import Comparison
from rlhf_core.train_reward import RewardTrainer, _rows, corrupt, train_reward

SETTINGS = RewardSettings(members=2, epochs=4, learning_rate=3e-3, max_tokens=64)
COLOURS = ("red", "green", "blue")


@pytest.fixture
def comparisons(said) -> list[Comparison]:
    """A planted preference: the kind response over the rude one, on either side."""
    rng = random.Random(0)
    found = []
    for _ in range(48):
        kind = f"{rng.choice(COLOURS)} please thanks {rng.choice(COLOURS)}"
        rude = f"{rng.choice(COLOURS)} rude no {rng.choice(COLOURS)}"
        comparison = Comparison(said(f"what is {rng.choice(COLOURS)}"), kind, rude, "a")
        found.append(comparison if rng.random() < 0.5 else comparison.swap())
    return found


def test_it_is_trls_reward_trainer():
    assert issubclass(RewardTrainer, trl.RewardTrainer)
    assert RewardTrainer.training_step is trl.RewardTrainer.training_step
    assert RewardTrainer.train is trl.RewardTrainer.train


def test_accuracy_rises_on_a_planted_preference(base, comparisons, said):
    steps: list[tuple[float, dict[str, float]]] = []
    model = train_reward(
        base,
        comparisons,
        settings=SETTINGS,
        name="reward-000001",
        progress=lambda share, metrics: steps.append((share, metrics)),
    )
    assert base.adapters == {"reward-000001-m0", "reward-000001-m1"}
    prompts = [said(f"what is {colour}") for colour in COLOURS]
    kind = model.score(prompts, ["blue please thanks green"] * 3)  # a pair in no comparison
    rude = model.score(prompts, ["blue rude no green"] * 3)
    assert (kind > rude + 0.5).all()
    shares = [share for share, _ in steps]
    assert shares == sorted(shares) and shares[-1] == 1
    assert steps[-1][1]["reward/accuracy"] > 0.75  # a running mean


def test_training_leaves_the_base_as_it_was(base, comparisons):
    ids = torch.arange(5, 15)[None]
    before = base.model(input_ids=ids).logits
    settings = SETTINGS.model_copy(update={"epochs": 1, "members": 1})
    train_reward(base, comparisons[:16], settings=settings, name="reward-000001")
    with torch.no_grad():
        assert torch.equal(base.model(input_ids=ids).logits, before)
    assert base.active is None
    assert not base.model.training
    assert not any(p.requires_grad for p in base.model.parameters())


def test_the_members_of_an_ensemble_differ(base, comparisons, said):
    settings = SETTINGS.model_copy(update={"epochs": 1})
    model = train_reward(base, comparisons, settings=settings, name="reward-000001")
    first, second = model.member_scores([said("what is red")] * 2, ["yes", "blue sky"])
    assert not torch.allclose(first, second, atol=1e-3)


def test_ties_alone_are_not_enough(base, said):
    ties = [Comparison(said("hello"), "yes", "no", "tie")] * 3
    with pytest.raises(NotEnoughDataError, match="none of 3 comparisons"):
        train_reward(base, ties, settings=SETTINGS, name="reward-000001")


def test_a_loss_that_is_no_number_stops_training(base, comparisons):
    for parameter in base.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="reward model's loss is not finite"):
        train_reward(base, comparisons, settings=SETTINGS, name="reward-000001")


def rows(base, comparisons, **changes):
    settings = SETTINGS.model_copy(update={"corrupted_share": 0.0, **changes})
    return _rows(base, comparisons, settings, random.Random(0))


def test_the_preferred_response_comes_first_whichever_side_it_was_on(base, said):
    one = Comparison(said("hello"), "yes", "no", "a")
    assert rows(base, [one]) == rows(base, [one.swap()])
    assert base.tokenizer.decode(rows(base, [one])[0]["chosen_ids"]).endswith("yes</s>")
    assert rows(base, [one])[0]["target"] == 0.95


def test_a_tie_has_an_even_target_and_its_own_weight(base, said):
    decided = Comparison(said("hello"), "yes", "no", "a")
    tie = Comparison(said("hello"), "yes", "no", "tie")
    first, second = rows(base, [decided, tie])
    assert second["target"] == 0.5
    assert second["weight"] == pytest.approx(first["weight"] / 2)
    assert first["weight"] + second["weight"] == pytest.approx(2)


def test_corrupted_copies_join_as_rejected_ones(base, comparisons):
    found = rows(base, comparisons, corrupted_share=1.0)
    assert len(found) == 2 * len(comparisons)
    assert all(row["chosen_ids"] != row["rejected_ids"] for row in found)


@given(text=st.text(alphabet="ab ", max_size=30), seed=st.integers(0, 10_000))
def test_a_corrupted_copy_is_never_the_original(text, seed):
    worse = corrupt(text, random.Random(seed))
    assert worse is None if not text.split() else worse != " ".join(text.split())
