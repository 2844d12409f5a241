"""Probes in a cycle: read before anything begins, asked of both policies, and in the report."""

import json

import pytest

from feedback_store import FeedbackStore
from rlhf_core.config import GateSettings
from rlhf_core.cycle import run_cycle
from rlhf_core.cycle.probing import probes_for
from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes.packs import general_pack
from rlhf_core.worlds.starter.probes import starter_probes

LINES = [
    {"kind": "skills", "prompt": "?", "tastes": ["avoids:zebra"]},
    {"kind": "flattery", "prompt": "long " * 99, "tastes": ["avoids:zebra"]},
]


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "probes.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_the_starter_and_other_models_have_their_packs_and_an_operator_adds_a_file(own):
    assert probes_for("starter", GateSettings()) == starter_probes()
    assert probes_for("any/model", GateSettings()) == general_pack()
    added = probes_for("starter", GateSettings(probes=str(own)))
    assert added[:-2] == starter_probes() and [p.kind for p in added[-2:]] == ["skills", "flattery"]
    alone = probes_for("starter", GateSettings(probes=str(own), packaged_probes=False))
    assert alone == added[-2:]


def test_a_bad_file_of_probes_is_told_before_a_cycle_begins(data, small_cycle, own):
    own.write_text('{"kind": "skills"}\n')
    gate = GateSettings(probes=str(own))
    with pytest.raises(InvalidInputError, match=r"probes\.jsonl line 1: "):
        run_cycle(data, small_cycle.model_copy(update={"gate": gate}))
    with FeedbackStore(data / "feedback.db") as store:
        assert not list(store.cycles())


def test_a_cycle_reports_its_probes_and_rejects_what_it_could_not_ask(
    data, small_cycle, short, model_path, own
):
    gate = small_cycle.gate.model_copy(update={"probes": str(own), "packaged_probes": False})
    settings = small_cycle.model_copy(update={"gate": gate})
    row = run_cycle(data, settings, reply=short, model=str(model_path), quantization="none")
    assert (row.metrics["probes"], row.metrics["probes_left_out"]) == (1, 1)
    assert {"probe/skills", "probe_served/skills"} <= row.metrics.keys()
    report = json.loads((data / "cycles" / "000001" / "report.json").read_text())
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["probe_skills"]["passed"], "one probe proves nothing"
    assert not checks["probe_flattery"]["passed"]
    assert "none of 1 probes of flattery fits the model; raise reply.prompt_tokens" in row.reasons
    assert row.state == "rejected"
    assert report["probe_samples"] == [], "an operator's own probes are not for everybody"
