"""What the doctor finds in sound and in damaged data directories."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from chat_app.commands.doctor import Finding, examine
from chat_app.settings import Settings, load_settings
from feedback_store.records import CandidateReply
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.store import FeedbackStore
from rlhf_core.model.adapters import publish_adapter
from tests.chat_app.engine.vllm.stand_in import standing_in

DIES = """
import os, sys
from feedback_store import FeedbackStore
with FeedbackStore(sys.argv[1]) as store:
    store.start_cycle({}, pid=os.getpid())
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data directory with a vote in it."""
    data = tmp_path / "data"
    with FeedbackStore(data / "feedback.db") as store:
        rater = store.add_rater("rater-1", consent="1")
        asked = store.add_message(store.add_conversation(rater.id).id, "user", "Capital of Peru?")
        replies = [CandidateReply("Lima."), CandidateReply("Rome.")]
        shown, _ = store.add_candidates(asked.id, replies, rater_id=rater.id)
        store.add_choice(shown, rater.id, "a", idempotency_key="k1")
    return load_settings(data=data)


@pytest.fixture
def store(settings: Settings) -> Iterator[FeedbackStore]:
    with FeedbackStore(settings.database) as opened:
        yield opened


def adapter(settings: Settings, name: str) -> Path:
    """A whole adapter on disk."""
    staging = settings.data / "making"
    staging.mkdir()
    save_file({"weight": torch.ones(2)}, staging / "adapter_model.safetensors")
    publish_adapter(staging, settings.adapters / name, kind="policy", base="b")
    return settings.adapters / name


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(settings)}


def fault(settings: Settings, name: str) -> str:
    """The doctor's text about the only fault."""
    bad = [finding for finding in examine(settings) if not finding.good]
    assert [finding.name for finding in bad] == [name], bad
    assert "\n" not in bad[0].text
    return bad[0].text


def test_a_sound_directory_is_reported_with_its_figures(
    settings: Settings, store: FeedbackStore
) -> None:
    adapter(settings, "policy-000001")
    store.register_adapter("policy-000001", kind="policy", state="published")
    findings = found(settings)
    assert all(finding.good for finding in findings.values())
    said = findings["database"].text
    assert "3 messages" in said and "schema 0" in said and "synchronous 2" in said
    assert findings["adapters"].text == "1 verified, policy-000000 served"
    assert (
        "votes of 1 pairs of rater and prompt are not derived yet" in findings["comparisons"].text
    )
    store.refresh_comparisons()
    assert found(settings)["comparisons"].text == "1 to learn from, 1 new"


def test_a_missing_directory_is_a_fault(settings: Settings, tmp_path: Path) -> None:
    missing = load_settings(data=tmp_path / "dtaa")
    assert f"no data directory {tmp_path / 'dtaa'}; check --data" in fault(missing, "database")
    assert not (tmp_path / "dtaa").exists()
    (tmp_path / "empty").mkdir()
    assert "no database in" in fault(load_settings(data=tmp_path / "empty"), "database")


def test_comparisons_whose_texts_are_missing_are_damage(
    settings: Settings, store: FeedbackStore
) -> None:
    store.refresh_comparisons()
    with SQLiteFile(settings.database).write() as db:
        db.execute("UPDATE comparisons SET a = 'nowhere'")
    said = fault(settings, "database")
    assert "refers to texts that are missing" in said and "restore a backup" in said


def test_an_unregistered_adapter_is_a_fault_unless_a_cycle_runs(
    settings: Settings, store: FeedbackStore
) -> None:
    orphan = adapter(settings, "policy-000007")
    assert str(orphan) in fault(settings, "adapters")
    store.start_cycle({}, pid=os.getpid())
    assert found(settings)["adapters"].good


def test_a_published_adapter_has_to_be_there_and_whole(
    settings: Settings, store: FeedbackStore
) -> None:
    for name, state in (("policy-000001", "published"), ("policy-000002", "rejected")):
        store.register_adapter(name, kind="policy", state=state)
    assert "policy-000001" in fault(settings, "adapters")  # a rejected one may have been removed
    weights = adapter(settings, "policy-000001") / "adapter_model.safetensors"
    assert found(settings)["adapters"].good
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "checksum" in fault(settings, "adapters")


def test_what_a_killed_cycle_leaves_is_named(settings: Settings, store: FeedbackStore) -> None:
    subprocess.run([sys.executable, "-c", DIES, str(settings.database)], check=True)
    assert "cycle 1 was killed at stage" in fault(settings, "cycles")
    running = store.start_cycle({}, pid=os.getpid()).id
    assert found(settings)["cycles"].text == f"cycle {running} running"
    for cycle in (1, running):
        (settings.data / "cycles" / f"{cycle:06d}" / "staging-policy").mkdir(parents=True)
    assert "cycles/000001/staging-policy was left" in fault(settings, "cycles")
    (settings.data / "feedback.db.1.partial").touch()
    assert "(and 1 more)" in fault(settings, "cycles")


def test_a_look_at_a_model_makes_no_directory(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    stated = {"peft_type": "LORA", "base_model_name_or_path": "starter"}
    (adapter / "adapter_config.json").write_text(json.dumps(stated))
    (adapter / "adapter_model.safetensors").touch()
    settings = load_settings(data=tmp_path / "missing", model=str(adapter))
    assert "is converted at the first start" in found(settings)["model"].text
    assert "not known before" in found(settings)["plan"].text
    assert not settings.data.exists()


def test_the_plan_says_which_profile_is_used(settings: Settings, store: FeedbackStore) -> None:
    assert "profile starter: nf4, 64 reply tokens; a cycle" in found(settings)["plan"].text


def test_each_server_of_vllm_is_asked_whether_it_can_be_used(settings: Settings) -> None:
    assert "vllm" not in found(settings)
    with standing_in({}, 2) as servers:
        engine = {"kind": "vllm", "vllm_urls": ",".join(server.url for server in servers)}
        using = load_settings(data=settings.data, engine=engine)
        assert found(using)["vllm"].text == "2 servers answer and load adapters"
        servers[1].window = 100
        finding = found(using)["vllm"]
    assert not finding.good
    assert f"1 of 2 servers cannot be used: {servers[1].url} has room for 100" in finding.text
