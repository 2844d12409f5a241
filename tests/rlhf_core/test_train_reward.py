import inspect
import random
from dataclasses import replace
from itertools import compress

import pytest
import torch
import trl
from torch.testing import assert_close

from rlhf_core.config import RewardSettings
from rlhf_core.errors import DivergenceError, NotEnoughDataError
from rlhf_core.gate.evaluation import accuracy
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Unpaired
from rlhf_core.reward.reward_model import RewardModel
from rlhf_core.reward.trainer import train_score_model
from rlhf_core.train_reward import LEAST_SD, RewardTrainer, Samples, _draw, train_reward

SETTINGS = RewardSettings(members=2, epochs=4, learning_rate=3e-3)
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


def test_exactly_these_private_methods_are_overridden():
    overridden = {
        "_prepare_dataset": ["self", "dataset", "processing_class", "args", "dataset_name"],
        "_get_num_items_in_batch": ["self", "batch_samples", "device"],
        "_get_train_sampler": ["self", "train_dataset"],
    }
    private = {name for name in vars(RewardTrainer) if name.startswith("_") and name[1] != "_"}
    assert {name for name in private if hasattr(trl.RewardTrainer, name)} == overridden.keys()
    for name, parameters in overridden.items():
        assert list(inspect.signature(getattr(trl.RewardTrainer, name)).parameters) == parameters


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


def plain_descent(likelihood, settings):
    """In place of Adam, whose first steps are as long for a gradient that is mere rounding."""
    trained = [p for p in likelihood.parameters() if p.requires_grad]
    return torch.optim.SGD(trained, lr=settings.learning_rate)


@pytest.mark.parametrize("micro_batch_size", [4, 3, 1])
def test_the_micro_batch_size_never_changes_what_is_learned(
    base, comparisons, monkeypatch, micro_batch_size
):
    monkeypatch.setitem(train_score_model.__globals__, "_optimizer", plain_descent)
    found = []
    for size in (0, micro_batch_size):  # 22 are a batch of 16 and one of 6: in fours, of 4 and 2
        settings = SETTINGS.model_copy(
            update={"members": 1, "batch_size": 16, "micro_batch_size": size, "learning_rate": 0.1}
        )
        model = train_reward(base, comparisons[:22], settings=settings, name="reward", seed=3)
        weights = [p for n, p in base.model.named_parameters() if ".reward-m0." in n]
        weights.append(model.members[0].head.weight)
        found.append(torch.cat([p.detach().flatten() for p in weights]))
        model.drop()
    assert_close(*found, atol=1e-6, rtol=0)


def test_ties_alone_are_not_enough(base, said):
    ties = [Comparison(said("hello"), "yes", "no", "tie")] * 3
    with pytest.raises(NotEnoughDataError, match="none of 3 comparisons"):
        train_reward(base, ties, settings=SETTINGS, name="reward-000001")


def test_a_loss_that_is_not_finite_stops_training(base, comparisons):
    for parameter in base.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="reward model's loss is not finite"):
        train_reward(base, comparisons, settings=SETTINGS, name="reward-000001")


def test_the_score_is_measured_in_standard_deviations_of_the_samples(base, comparisons, said):
    rng = random.Random(5)
    prompts = tuple(said(f"what is {i}") for i in range(24))
    responses = tuple(f"{rng.choice(COLOURS)} {rng.choice(('rude', 'thanks'))}" for _ in prompts)
    samples = Samples(prompts, responses)
    settings = SETTINGS.model_copy(update={"epochs": 1})
    model = train_reward(base, comparisons, settings=settings, name="reward", samples=samples)
    scores = model.member_scores(prompts, responses)
    assert_close(scores.mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    assert_close(scores.std(1, correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_samples_that_are_all_alike_make_no_difference_look_huge(base, comparisons, said):
    settings = SETTINGS.model_copy(update={"epochs": 1})
    sides = [(c.prompt, text) for c in comparisons for text in (c.response_a, c.response_b)]
    prompts, responses = zip(*{repr(side): side for side in sides}.values(), strict=True)
    samples = Samples((said("what is red"),) * 8, ("blue",) * 8)
    model = train_reward(base, comparisons, settings=settings, name="reward", samples=samples)
    spread = model.member_scores(prompts, responses).std(1, correction=0)
    assert_close(spread, torch.full((2,), 1 / LEAST_SD), atol=1e-3, rtol=0)


def test_only_the_upper_share_of_the_layers_trains_and_the_rest_is_what_members_began_as(
    base, comparisons, disturb
):
    base.attach("sft", seed=7)
    disturb(base, "sft", size=0.01)
    settings = SETTINGS.model_copy(update={"epochs": 1})
    model = train_reward(base, comparisons, settings=settings, name="reward", start="sft")
    weights = {n: p for n, p in base.model.named_parameters() if "lora_" in n}
    for name, own in weights.items():
        if ".reward-m0." in name:
            begun = weights[name.replace(".reward-m0.", ".sft.")]
            assert torch.equal(own, begun) == (".layers.0." in name), name
    assert model.trunk.depth == 1


def test_members_of_a_new_model_begin_as_those_of_the_last_with_their_heads(base, comparisons):
    settings = SETTINGS.model_copy(update={"epochs": 1, "min_steps": 1})
    last = train_reward(base, comparisons, settings=settings, name="last")
    still = settings.model_copy(update={"learning_rate": 1e-12})
    model = train_reward(base, comparisons, settings=still, name="reward", start=last, seed=9)
    prompts, responses = zip(*((c.prompt, c.response_a) for c in comparisons), strict=True)
    assert_close(
        model.member_scores(prompts, responses),
        last.member_scores(prompts, responses),
        atol=1e-3,
        rtol=0,
    )


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_new_head_of_scale_0_begins_with_the_same_score_for_every_response(
    base, comparisons, scale
):
    update = {"epochs": 1, "learning_rate": 1e-12, "head_scale": scale}
    settings = SETTINGS.model_copy(update=update)
    head = train_reward(base, comparisons, settings=settings, name="reward").members[0].head
    assert (head.weight.abs().max() > 1e-6) == bool(scale)


def test_who_leaves_nothing_out_learns_from_every_prompt(base, said):
    many = [Comparison(said(f"what is {number}"), "yes", "no", "a") for number in range(120)]
    settings = SETTINGS.model_copy(update={"members": 1, "epochs": 1, "min_steps": 1})
    for sample, prompts in (("bootstrap", 108), ("all", 120)):
        model = train_reward(base, many, settings=settings, name="reward", sample=sample)
        assert len(model.learnt_from[0]) == prompts
        model.drop()


def test_the_head_learns_at_its_own_rate(base, comparisons):
    found = []
    for rate in (None, 0.1):
        update = {"learning_rate": 1e-12, "head_scale": 0.0, "head_learning_rate": rate}
        settings = SETTINGS.model_copy(update=update)
        model = train_reward(base, comparisons, settings=settings, name="reward")
        found.append(model.members[0].head.weight.abs().max())
        model.drop()
    assert found[0] < 1e-6 and found[1] > 0.01  # without a rate of its own it has the adapters'


@pytest.mark.parametrize("kept_bytes", [0, 1 << 30])
def test_keeping_hidden_states_changes_nothing_but_the_time(
    base, comparisons, monkeypatch, kept_bytes
):
    """Against whole passes, with the same layers trained."""
    monkeypatch.setitem(train_score_model.__globals__, "_optimizer", plain_descent)
    update = {"epochs": 1, "learning_rate": 0.1, "kept_bytes": kept_bytes, "members": 2}
    settings = SETTINGS.model_copy(update=update)
    found = []
    for split in (True, False):
        with monkeypatch.context() as patched:
            if not split:
                patched.setattr("rlhf_core.reward.trunk.splits", lambda *_: False)
            model = train_reward(base, comparisons[:20], settings=settings, name="reward")
        assert model.trunk.depth == int(split)
        weights = [p for n, p in base.model.named_parameters() if ".reward-m1." in n]
        found.append(torch.cat([p.detach().flatten() for p in weights]))
        model.drop()
    assert_close(*found, atol=1e-6, rtol=0)


@pytest.mark.parametrize("members", [1, 2])
def test_every_member_leaves_out_whole_prompts(members):
    prompts = [str(i) for i in range(200)]
    drawn = _draw(prompts, members, random.Random(0))
    assert sum(drawn.values()) == (200 if members > 1 else 180)
    assert len(drawn) < 200


def test_few_prompts_are_all_trained_on_by_a_single_member():
    prompts = [str(i) for i in range(99)]
    assert set(_draw(prompts, 1, random.Random(0))) == set(prompts)


def test_votes_that_the_members_left_out_show_what_was_learnt_by_heart(base, comparisons):
    """Votes that mean nothing: right about those it saw, the model may not be sure of others."""
    rng = random.Random(1)
    meaningless = [c.swap() if rng.random() < 0.5 else c for c in comparisons]
    meaningless = [
        replace(
            c,
            label=rng.choice("ab"),
            prompt=[{"role": "user", "content": f"{i} {c.prompt[0]['content']}"}],
        )
        for i, c in enumerate(meaningless * 6)
    ]
    settings = SETTINGS.model_copy(update={"epochs": 4})
    model = train_reward(base, meaningless, settings=settings, name="reward")
    assert model.temperature > 2
    assert accuracy(model.score, meaningless).low > 0.7  # it has learnt them by heart
    known = model.unseen([c.prompt for c in meaningless]).any(0)
    unseen = accuracy(model.unseen_score, list(compress(meaningless, known)), z=3)
    assert unseen.low < 0.5 < unseen.high and unseen.votes > len(meaningless) / 3


def test_a_vote_of_a_trained_model_saved_and_loaded_equals_the_score_inside_ppo(
    model_path, comparisons, tmp_path
):
    """In PPO the base is in training mode with another adapter active, here it is served."""
    base = load_base(str(model_path), quantization="nf4", device="cpu")
    settings = SETTINGS.model_copy(update={"epochs": 1})
    model = train_reward(base, comparisons, settings=settings, name="reward")
    model.save(tmp_path / "staging")
    publish_adapter(
        tmp_path / "staging", tmp_path / "reward-000001", kind="reward", base=base.fingerprint
    )
    prompts = [c.prompt for c in comparisons]
    responses = [c.response_a for c in comparisons]
    base.attach("policy", trainable=True)
    with base.training("policy"):
        base.respond(prompts[:2], adapter="policy", max_new_tokens=4)
        inside = model.score(prompts, responses)
    other = load_base(str(model_path), quantization="nf4", device="cpu")
    loaded = RewardModel.load(other, tmp_path / "reward-000001")
    assert_close(loaded.score(prompts, responses), inside, atol=1e-4, rtol=0)
    assert loaded.temperature == model.temperature


def test_no_data_about_raters_is_saved(base, comparisons, said, tmp_path):
    thumbs = [Unpaired(said("hello"), "blue", good=True, rater="rater-canary")] * 4
    pairs = [replace(c, raters=("rater-canary", "other-canary")) for c in comparisons]
    settings = SETTINGS.model_copy(update={"epochs": 1})
    train_reward(base, pairs, settings=settings, name="reward", unpaired=thumbs).save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"canary" in path.read_bytes()]


def test_thumbs_and_pairs_across_raters_teach_too(base, comparisons, said):
    """Only thumbs tell blue from red here."""
    thumbs = [
        Unpaired(said(f"what is {i}"), colour, good=colour == "blue", rater=f"r{i % 3}")
        for i in range(12)
        for colour in ("blue", "red")
    ]
    model = train_reward(base, comparisons, settings=SETTINGS, name="reward", unpaired=thumbs)
    blue, red = model.score([said("what is 1")] * 2, ["blue", "red"])
    assert blue > red + 0.3
