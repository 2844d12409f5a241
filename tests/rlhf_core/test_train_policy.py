"""The stage: what a policy learns, and when it stops."""

from collections import Counter
from statistics import fmean

import pytest
import torch
from torch.testing import assert_close

from rlhf_core.config import GateSettings, PolicySettings
from rlhf_core.errors import DivergenceError, InvalidInputError, LaunchError, NotEnoughDataError
from rlhf_core.ppo.critic import attached_critic
from rlhf_core.records import Demonstration
from rlhf_core.train_policy import PPOTrainer, _config, _dataset, train_policy
from rlhf_core.training.stage import prepared

SETTINGS = PolicySettings(
    iterations=2,
    batch_size=8,
    minibatch_size=8,
    epochs=2,
    learning_rate=1e-2,
    warmup_iterations=0,
)


def changed(**changes) -> PolicySettings:
    return PolicySettings(**(SETTINGS.model_dump() | changes))


def letters(prompts, responses) -> torch.Tensor:
    """A planted preference: the share of plain letters."""
    return torch.tensor([sum(c in "aeiou" for c in r) / 3 for r in responses])


@pytest.fixture
def prompts(said):
    return [said(text) for text in ("hello", "what is the colour of grass", "yes please", "no")]


@pytest.mark.parametrize("estimator", ["gae", "rloo"])
def test_the_micro_batch_size_never_changes_what_is_learned(base, prompts, said, estimator):
    found = []
    for size in (0, 2):
        base.attach("policy", lora=None)
        for name, parameter in base.model.named_parameters():
            if ".policy." in name and "lora_A" in name:  # begin alike
                torch.nn.init.normal_(
                    parameter, std=0.1, generator=torch.Generator().manual_seed(0)
                )
        train_policy(
            base,
            prompts,
            letters,
            adapter="policy",
            reference=None,
            settings=changed(micro_batch_size=size, estimator=estimator, ptx_coef=0.1),
            demonstrations=[
                Demonstration(said("hello"), text)
                for text in ("yes", "yes please", "the colour of grass is green " * 5)
            ],
        )
        weights = (p for n, p in base.model.named_parameters() if ".policy." in n)
        found.append(torch.cat([p.detach().flatten() for p in weights]))
        base.drop("policy")
    assert_close(*found, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("estimator", ["gae", "rloo"])
def test_the_score_rises_on_a_planted_preference(base, prompts, estimator):
    base.attach("policy")
    history: list[dict[str, float]] = []
    metrics = train_policy(
        base,
        prompts,
        letters,
        adapter="policy",
        reference=None,
        settings=changed(
            iterations=20,
            batch_size=32,
            minibatch_size=32,
            kl_coef=0.01,
            kl_budget=60,
            estimator=estimator,
        ),
        progress=lambda _, latest: history.append(latest),
    )
    assert len(history) == metrics["iterations"] == 20
    assert history[0]["objective/kl"] == pytest.approx(0, abs=1e-4)
    scores = [h["objective/scores"] for h in history]
    assert fmean(scores[-3:]) > fmean(scores[:3]) + 0.3
    assert metrics["objective/kl"] > 0.5


def test_metrics_have_their_usual_names_and_time_shares_add_up(base, prompts):
    base.attach("policy")
    metrics = train_policy(
        base, prompts, letters, adapter="policy", reference=None, settings=SETTINGS
    )
    assert {
        "eps",
        "lr",
        "objective/kl",
        "objective/kl_anchor",
        "objective/kl_coef",
        "objective/entropy",
        "objective/non_score_reward",
        "objective/scores",
        "objective/rlhf_reward",
        "policy/approxkl_avg",
        "policy/clipfrac_avg",
        "policy/entropy_avg",
        "loss/policy_avg",
        "loss/value_avg",
        "val/clipfrac_avg",
        "val/num_eos_tokens",
        "val/ratio",
        "val/ratio_var",
    } <= set(metrics)
    assert metrics["lr"] == SETTINGS.learning_rate
    shares = [metrics[f"time/{name}"] for name in ("generate", "score", "logprobs", "update")]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0


def test_the_reference_is_the_named_adapter_and_stays_put(base, prompts, disturb):
    base.attach("sft")
    disturb(base, "sft")
    base.copy_adapter("sft", "policy")
    kls = []
    train_policy(
        base,
        prompts,
        letters,
        adapter="policy",
        reference="sft",
        settings=changed(kl_budget=1e3),
        progress=lambda _, latest: kls.append(latest["objective/kl"]),
    )
    assert kls[0] == pytest.approx(0, abs=1e-4)  # against the bare base it would be large
    assert abs(kls[1]) > 1e-3
    assert base.adapters == {"sft", "policy"}


def test_training_leaves_only_the_policy_changed(base, prompts):
    ids = torch.arange(5, 15)[None]
    before = base.model(input_ids=ids).logits
    base.attach("policy")
    names = {name for name, _ in base.model.named_parameters()}
    train_policy(base, prompts, letters, adapter="policy", reference=None, settings=SETTINGS)
    assert {name for name, _ in base.model.named_parameters()} == names
    assert "forward" not in vars(base.model.get_base_model())
    assert base.active is None and not base.model.training
    with torch.no_grad(), base.using("policy"):
        assert not torch.equal(base.model(input_ids=ids).logits, before)
    with torch.no_grad():
        assert torch.equal(base.model(input_ids=ids).logits, before)


@pytest.mark.parametrize(
    ("epochs", "minibatch", "steps"), [(1, 8, 1), (1, 4, 2), (3, 2, 12)], ids=str
)
def test_every_epoch_and_minibatch_is_one_optimizer_step(base, prompts, epochs, minibatch, steps):
    base.attach("policy")
    losses = []

    class Counting(PPOTrainer):
        def _compute_loss(self, model, inputs):
            assert len(inputs["completion_ids"]) == minibatch
            losses.append(super()._compute_loss(model, inputs))
            return losses[-1]

    settings = changed(iterations=1, epochs=epochs, minibatch_size=minibatch)
    with prepared(base, "policy") as scratch, attached_critic(base) as critic:
        Counting(
            base,
            letters,
            critic=critic,
            settings=settings,
            demonstrations=[],
            args=_config(base, settings, output_dir=scratch, seed=0),
            train_dataset=_dataset(prompts, settings),
        ).train()
    assert len(losses) == steps


def test_a_spent_kl_budget_stops_before_another_step(base, prompts):
    base.attach("policy")
    metrics = train_policy(
        base,
        prompts,
        letters,
        adapter="policy",
        reference=None,
        settings=changed(iterations=50, kl_budget=0.2, kl_coef=0.0, batch_size=16),
    )
    assert metrics["kl_stopped"] == 1
    assert 1 <= metrics["iterations"] < 50
    assert metrics["objective/kl"] > 0.2
    assert min(share for name, share in metrics.items() if name.startswith("time/")) >= 0
    assert base.active is None


def test_the_budget_counts_from_the_anchor_whatever_the_reference(base, prompts, disturb):
    base.attach("sft")
    disturb(base, "sft", size=0.05)
    base.copy_adapter("sft", "policy")
    told = {}
    settings = changed(iterations=1, kl_budget=0.1, learning_rate=1e-6)
    near = train_policy(
        base,
        prompts,
        letters,
        adapter="policy",
        reference=None,
        anchor="sft",
        settings=settings,
    )
    assert near["objective/kl"] > 0.3
    assert near["objective/kl_anchor"] == pytest.approx(0, abs=1e-3)
    assert (near["kl_stopped"], near["iterations"]) == (0, 1)
    base.drop("policy")
    base.copy_adapter("sft", "policy")
    for budget in (1e3, 0.1):
        told[budget] = train_policy(
            base,
            prompts,
            letters,
            adapter="policy",
            reference="sft",
            settings=changed(iterations=1, kl_budget=budget, learning_rate=1e-6),
        )
    assert told[1e3]["kl_stopped"] == 0
    assert told[1e3]["objective/kl"] == pytest.approx(0, abs=1e-3)
    assert told[1e3]["objective/kl_anchor"] > 0.3
    assert (told[0.1]["kl_stopped"], told[0.1]["iterations"]) == (1, 0)


@pytest.mark.parametrize(
    ("given", "found"),  # new, older and unvoted prompts
    [
        ((10, 0, 0), (100, 0, 0)),
        ((90, 10, 0), (75, 25, 0)),  # at least replay_share
        ((65, 35, 0), (65, 35, 0)),  # as many as there are
        ((10, 90, 0), (50, 50, 0)),  # at most most_replay_share
        ((75, 0, 25), (75, 0, 25)),
        ((10, 0, 90), (50, 0, 50)),  # at most most_unvoted_share
        ((10, 900, 90), (25, 50, 25)),  # of what older prompts leave
    ],
)
def test_each_kind_of_prompt_has_its_share_of_the_rollouts(said, given, found):
    new, older, unvoted = (
        [said(f"{kind} {i}") for i in range(n)]
        for kind, n in zip(("new", "older", "unvoted"), given, strict=True)
    )
    settings = changed(iterations=25, batch_size=8)
    rows = _dataset(new, settings, older=older, unvoted=unvoted)
    kinds = Counter(row["prompt"][0]["content"].split()[0] for row in rows)
    assert tuple(kinds[kind] for kind in ("new", "older", "unvoted")) == found


def test_a_score_that_is_not_finite_stops_training_and_quotes_nobody(base, prompts, caplog):
    base.attach("policy")
    with pytest.raises(DivergenceError, match="score of a response is not finite"):
        train_policy(
            base,
            prompts,
            lambda _, responses: torch.full((len(responses),), float("nan")),
            adapter="policy",
            reference=None,
            settings=SETTINGS,
        )
    assert prompts[0][0]["content"] not in caplog.text


def test_demonstrations_are_remembered_through_ptx(base, prompts, said):
    base.attach("policy")
    losses = []
    train_policy(
        base,
        prompts,
        letters,
        adapter="policy",
        reference=None,
        settings=changed(iterations=6, ptx_coef=1.0),
        demonstrations=[Demonstration(said("hello"), "yes please")],
        progress=lambda _, latest: losses.append(latest["loss/ptx_avg"]),
    )
    assert losses[-1] < losses[0] - 1


def test_plain_texts_are_remembered_through_ptx(base, prompts):
    base.attach("policy")
    losses = []
    train_policy(
        base,
        prompts,
        letters,
        adapter="policy",
        reference=None,
        settings=changed(iterations=6, ptx_coef=1.0),
        texts=["what is the colour of grass", "green"],
        progress=lambda _, latest: losses.append(latest["loss/ptx_avg"]),
    )
    assert losses[-1] < losses[0] - 1


def test_missing_inputs_are_named(base, prompts):
    base.attach("policy")
    with pytest.raises(NotEnoughDataError, match="0 prompts"):
        train_policy(base, [], letters, adapter="policy", reference=None, settings=SETTINGS)
    with pytest.raises(NotEnoughDataError, match="ptx_coef needs demonstrations"):
        train_policy(
            base,
            prompts,
            letters,
            adapter="policy",
            reference=None,
            settings=changed(ptx_coef=0.5),
        )


@pytest.mark.parametrize(
    ("changes", "said_why"),
    [
        ({"minibatch_size": 3}, "multiple of minibatch_size 3"),
        ({"minibatch_size": 6}, "multiple of minibatch_size 6"),
        ({"batch_size": 6, "minibatch_size": 6, "estimator": "rloo"}, "and of group 4"),
        ({"group": 3}, "and of group 3"),
        ({"replay_share": 0.6}, r"replay_share 0\.6 is above most_replay_share 0\.5"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_early(changes, said_why):
    settings = changed(**changes)  # no error yet: a profile may fill in the other option
    with pytest.raises(InvalidInputError, match=said_why):
        settings.require_fit()


def test_a_prompt_gets_two_replies_or_four_without_a_critic_or_as_many_as_the_settings_say():
    assert PolicySettings().group_size == 2
    assert PolicySettings(estimator="rloo").group_size == 4
    assert PolicySettings(estimator="rloo", group=8).group_size == 8


def test_groups_that_processes_cannot_share_are_refused_early(base, prompts, monkeypatch):
    base.attach("policy")
    monkeypatch.setenv("WORLD_SIZE", "2")
    settings = changed(batch_size=12, minibatch_size=12, group=4)
    with pytest.raises(LaunchError, match="6 episodes of each of 2 processes"):
        _config(base, settings, output_dir=".", seed=0)


def test_the_kl_budget_grows_with_the_longest_reply_unless_it_is_set():
    assert PolicySettings().kl_limit(48) == 24
    assert PolicySettings().kl_limit(200) == 100
    assert PolicySettings(kl_budget=7).kl_limit(200) == 7
    assert GateSettings().kl_limit(200) == 120
    assert GateSettings(max_kl=8).kl_limit(200) == 8
