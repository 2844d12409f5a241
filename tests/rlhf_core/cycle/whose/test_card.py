import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from rlhf_core.cycle.whose.card import CardFacts, hub_id, model_card
from rlhf_core.cycle.whose.facts import Portrait, portrait
from rlhf_core.gate.probes.asking import ProbeCounts
from tests.rlhf_core.cycle.whose.test_facts import crowd, vote

METRICS = {
    "win_rate": 0.82,
    "win_rate_low": 0.75,
    "win_rate_high": 0.88,
    "reward_accuracy": 0.9,
    "reward_accuracy_low": 0.85,
    "probe/skills": 0.6,
}
FACTS = CardFacts(
    base="some/model",
    parent="policy-000000",
    portrait=portrait(crowd(9) + crowd(6, group="simulated")),
    metrics=METRICS,
    probed={"skills": ProbeCounts(asked=10, candidate_failed=4)},
    failed=(),
    alarms=("kl",),
    name="policy-000003",
)


def test_programs_of_the_hub_read_it():
    data = ModelCard(model_card(FACTS)).data
    assert (data.base_model, data.library_name) == ("some/model", "peft")
    assert data.pipeline_tag == "text-generation"
    assert {"lora", "rlhf"} <= set(data.tags)
    found = {(result.dataset_name, result.metric_value) for result in data.eval_results}
    assert found == {("held out questions", 0.82), ("probes skills", 0.6)}


def test_what_is_not_known_is_left_out():
    text = model_card(replace(FACTS, base=None, metrics={}, probed={}, alarms=()))
    header = ModelCard(text).data.to_dict()
    assert not {"license", "language", "datasets", "base_model", "model-index"} & header.keys()
    assert "Nothing was measured." in text
    assert "the base has no id on the Hub" in text


def test_it_says_whom_and_what_is_wrong_in_numbers():
    text = model_card(FACTS)
    assert "To 9 people and 6 programs, by 15 votes." in text
    assert "| people | 9 | 60% |" in text
    assert "| simulated visitors | 6 | 40% |" in text
    assert "| keeps its skills | 60% (30% to 84%) | 10 |" in text
    assert "Alarms of its cycle: kl." in text
    assert "It passed the tests of its cycle." in text


def test_it_says_so_if_the_gate_rejected_it():
    assert "**It failed tests of its cycle: kl, probe_skills.**" in model_card(
        replace(FACTS, failed=("kl", "probe_skills"))
    )


def test_of_fewer_than_five_people_it_tells_nothing_but_the_programs_beside_them():
    text = model_card(replace(FACTS, portrait=Portrait()))
    assert "To fewer than five people. Nothing more is told" in text
    assert "|" not in text.split("## Whom")[1].split("## What")[0]
    beside = model_card(replace(FACTS, portrait=portrait(crowd(2) + crowd(1, group="judge"))))
    assert "To fewer than five people and 1 program. Nothing more is told" in beside


def test_one_judge_is_named_with_its_share():
    votes = [*crowd(20), vote("judge", group="judge", weight=20.0)]
    text = model_card(replace(FACTS, portrait=portrait(votes)))
    assert "To 20 people and 1 program, by 21 votes." in text
    assert "| people | 20 | 50% |" in text
    assert "| language models that vote | 1 | 50% |" in text


def test_nobodys_name_or_text_is_in_it():
    votes = [vote(f"secret-name-{n}", "secret question") for n in range(9)]
    assert "secret" not in model_card(replace(FACTS, portrait=portrait(votes)))


def test_a_reward_models_card_has_its_accuracy_and_no_win_rate():
    text = model_card(replace(FACTS, kind="reward", name="reward-000003"))
    data = ModelCard(text).data
    assert data.pipeline_tag == "text-classification"
    assert [result.metric_value for result in data.eval_results] == [0.9]
    assert "preferred to those" not in text


@pytest.mark.parametrize(
    ("model", "base"),
    [("starter", None), ("some/model", "some/model"), ("not there.gguf", None), ("/a/b/c", None)],
)
def test_a_path_is_no_id_on_the_hub(model, base):
    assert hub_id(model) == base


def test_an_adapters_base_is_the_model_that_it_names(tmp_path):
    config = {"peft_type": "LORA", "base_model_name_or_path": "some/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").touch()
    assert hub_id(str(tmp_path)) == "some/base"
    assert hub_id(str(tmp_path.parent)) is None
