import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from rlhf_core.errors import AdapterError, InvalidInputError
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.reward.reward_data import prompt_key
from rlhf_core.reward.reward_model import RewardModel, ScoreModel, scores_of
from tests.rlhf_core.templates import SMOLLM

ASKED = [[{"role": "user", "content": "Hello"}]] * 2
RESPONSES = ["yes", "no thanks", "", "the sky is blue", "kind kind kind"]


@pytest.fixture
def prompts(said):
    return [said(f"what is {i}" + " please" * i) for i in range(len(RESPONSES))]


@pytest.fixture
def model(base, disturb, prompts) -> RewardModel:
    members = []
    for k in range(3):
        base.attach(f"reward-000001-m{k}")
        disturb(base, f"reward-000001-m{k}", seed=k)
        members.append(ScoreModel(base, f"reward-000001-m{k}"))
    model = RewardModel(base, members, spread_penalty=0.5)
    model.normalise(prompts, RESPONSES)
    return model


def test_scores_are_normalised_on_the_compared_responses(model, prompts):
    scores = model.member_scores(prompts, RESPONSES)
    assert scores.shape == (3, 5)
    assert_close(scores.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(scores.std(1, correction=0), torch.ones(3))


def test_padding_with_the_end_token_changes_no_score(load_tiny, prompts, disturb):
    base = load_tiny(SMOLLM)
    base.attach("reward")
    disturb(base, "reward")
    model = RewardModel(base, [ScoreModel(base, "reward")], spread_penalty=0.0)
    together = model.score(prompts, RESPONSES)
    alone = [model.score([p], [r]) for p, r in zip(prompts, RESPONSES, strict=True)]
    assert_close(together, torch.cat(alone))
    assert together.std() > 0.01  # else anything would be equal


def test_a_scale_has_a_smallest_standard_deviation(model, prompts):
    before = model.member_scores(prompts, RESPONSES)
    model.normalise(prompts[:1] * 3, RESPONSES[:1] * 3, least=0.25)  # these do not vary
    assert_close(model.member_scores(prompts, RESPONSES), (before - before[:, :1]) / 0.25)


def test_a_preference_is_the_mean_margin_over_the_temperature_as_log_odds(model, prompts):
    model.temperature = 0.5
    stated = model.preference(prompts[:1], RESPONSES[:1], RESPONSES[:1])
    assert_close(stated, torch.tensor([0.5]))
    same = model.member_scores([prompts[0]] * 2, RESPONSES[:2]).mean(0)
    stated = model.preference(prompts[:1], RESPONSES[:1], RESPONSES[1:2])
    assert_close(stated, ((same[:1] - same[1:]) / 0.5).sigmoid())


def test_disagreement_between_members_lowers_the_score(model, prompts):
    scores = model.member_scores(prompts, RESPONSES)
    assert_close(model.score(prompts, RESPONSES), scores.mean(0) - 0.5 * scores.std(0))
    assert (model.score(prompts, RESPONSES) < scores.mean(0)).all()


def test_one_member_alone_is_not_penalised(model, base, prompts):
    alone = RewardModel(base, model.members[:1], spread_penalty=0.5)
    assert_close(alone.score(prompts, RESPONSES), model.member_scores(prompts, RESPONSES)[0])


def test_a_training_vote_is_scored_by_the_members_that_left_it_out(model, prompts):
    keys = [prompt_key(prompt) for prompt in prompts]
    model.learnt_from = [set(keys[:3]), set(keys[:2]), set(keys[:1])]
    scores = model.member_scores(prompts, RESPONSES)
    found = model.unseen_score(prompts, RESPONSES)
    assert found[0].isnan()  # every member learnt from it
    pair = scores[1:, 2]
    assert_close(found[1:3], torch.stack([scores[2, 1], pair.mean() - 0.5 * pair.std()]))
    assert_close(found[3:], model.score(prompts, RESPONSES)[3:])


def test_a_loaded_model_does_not_pretend_to_know_what_it_learnt_from(model, prompts):
    with pytest.raises(ValueError, match="does not know"):
        model.unseen_score(prompts, RESPONSES)


def test_a_response_is_scored_once(model, base, prompts):
    rows = []
    base.layers[1].register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    first = model.score(prompts, RESPONSES)  # when the model was normalised, they were scored
    assert rows == [] and torch.equal(model.score(prompts, RESPONSES), first)
    model.score([*prompts, prompts[0]], [*RESPONSES, "blue"])
    assert rows == [1] * 3  # by three members


def test_the_oldest_scores_are_forgotten_first(model, base, prompts, monkeypatch):
    monkeypatch.setattr("rlhf_core.reward.reward_model.MOST_KNOWN", 3)
    replies, prompt = ["a", "b", "c", "d"], prompts[0]
    first = [model.member_scores([prompt], [reply]) for reply in replies]  # "a" is forgotten
    rows = []
    base.layers[1].register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    for score, reply in reversed([*zip(first, replies, strict=True)]):
        assert not rows
        assert_close(model.member_scores([prompt], [reply]), score)
    assert rows == [1] * 3  # "a", by three members


def test_members_that_differ_above_only_run_the_lower_layers_once(base, disturb, prompts):
    base.attach("reference")
    disturb(base, "reference")
    for k in range(3):
        base.copy_adapter("reference", f"m{k}")
    for name, parameter in base.model.named_parameters():
        if ".layers.1." in name and (found := re.search(r"lora_B\.m(\d)", name)):
            parameter.data += 0.1 * (int(found[1]) + 1)
    members = [ScoreModel(base, f"m{k}") for k in range(3)]
    model = RewardModel(base, members, spread_penalty=0.5)
    whole = [RewardModel(base, [member], spread_penalty=0.5) for member in members]
    alone = torch.cat([one.member_scores(prompts, RESPONSES) for one in whole])
    assert model.trunk.depth == 1 and [one.trunk.depth for one in whole] == [0] * 3
    lower = []
    base.layers[0].mlp.register_forward_pre_hook(lambda _, given: lower.append(len(given[0])))
    assert_close(model.member_scores(prompts, RESPONSES), alone)
    assert lower == [len(RESPONSES)]


def test_a_score_depends_neither_on_order_nor_on_neighbours(model, prompts):
    together = model.score(prompts, RESPONSES)
    order = [3, 0, 4, 4, 2, 1]
    mixed = model.score([prompts[i] for i in order], [RESPONSES[i] for i in order])
    assert_close(mixed, together[order])
    assert_close(model.score(prompts[3:4], RESPONSES[3:4]), together[3:4])


def test_scoring_leaves_the_active_adapter_and_the_mode_alone(model, base, prompts):
    with base.training("reward-000001-m1"):
        model.score(prompts, RESPONSES)
        assert base.active == "reward-000001-m1"
        assert base.model.training


def test_a_saved_reward_model_gives_the_same_scores_elsewhere(
    model, base, prompts, model_path, tmp_path
):
    path = published(model, base, tmp_path)
    other = load_base(str(model_path), quantization="none", device="cpu")
    loaded = RewardModel.load(other, path)
    assert_close(loaded.score(prompts, RESPONSES), model.score(prompts, RESPONSES))
    loaded.drop()
    assert other.adapters == set()


def test_a_reward_model_with_a_changed_head_is_refused(model, base, tmp_path, model_path):
    path = published(model, base, tmp_path)
    data = bytearray((path / "heads.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "heads.safetensors").write_bytes(data)
    other = load_base(str(model_path), quantization="none", device="cpu")
    with pytest.raises(AdapterError, match="changed after it was written"):
        RewardModel.load(other, path)
    assert other.adapters == set()


def published(model: RewardModel, base: Base, root):
    model.save(root / "staging")
    publish_adapter(root / "staging", root / "reward-000001", kind="reward", base=base.fingerprint)
    return root / "reward-000001"


@pytest.mark.parametrize(
    "given", [[1, 2.5], (1, 2.5), np.array([1, 2.5]), torch.tensor([1, 2.5], dtype=torch.float64)]
)
def test_any_kind_of_numbers_will_do(given):
    found = scores_of(lambda prompts, responses: given, ASKED, ["x", "y"])
    assert found.dtype == torch.float32
    assert found.tolist() == [1.0, 2.5]


@pytest.mark.parametrize("given", [None, "ab", [None, None], [[1.0], [2.0, 3.0]]])
def test_what_is_no_number_is_refused_in_one_line(given):
    with pytest.raises(InvalidInputError, match="use one number for each response") as found:
        scores_of(lambda prompts, responses: given, ASKED, ["x", "y"])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("given", [[1.0], [1.0] * 3, [[1.0, 2.0]], 1.0])
def test_another_number_of_scores_is_refused(given):
    with pytest.raises(InvalidInputError, match="for 2 responses; use one number for each"):
        scores_of(lambda prompts, responses: given, ASKED, ["x", "y"])
