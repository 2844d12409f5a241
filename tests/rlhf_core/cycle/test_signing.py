"""The key of a data directory, and adapters that were published before there was one."""

import json
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from feedback_store import FeedbackStore
from rlhf_core.cycle.signing import adapter_key, signing_key
from rlhf_core.errors import AdapterError
from rlhf_core.model.adapters import publish_adapter, verify_adapter

ONE, TWO = "policy-000001", "policy-000002"


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        yield opened


def unsigned(store, data: Path, name: str) -> Path:
    """An adapter as an earlier version published it, with its row."""
    staging = data / "staging"
    staging.mkdir()
    save_file({"weight": torch.ones(2)}, staging / "adapter_model.safetensors")
    path = data / "adapters" / name
    publish_adapter(staging, path, kind="policy", base="b")
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["signature"]  # earlier versions know no such field
    (path / "manifest.json").write_text(json.dumps(manifest))
    store.register_adapter(name, kind="policy", state="published")
    return path


def audited(store):
    with store._file.read() as db:
        sql = "SELECT detail FROM audit WHERE action = 'adapters_signed'"
        return [json.loads(row["detail"])["adapters"] for row in db.query(sql)]


def test_the_key_is_the_same_for_all_and_only_its_owner_can_read_it(store, tmp_path):
    key = signing_key(store, tmp_path)
    assert key == adapter_key(tmp_path) and len(key) >= 32
    file = tmp_path / "secrets" / "adapter-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("")
    with pytest.raises(AdapterError, match="adapter-key is empty; restore it"):
        adapter_key(tmp_path)


def test_adapters_of_an_earlier_version_are_signed_once(store, tmp_path):
    one = unsigned(store, tmp_path, ONE)
    key = signing_key(store, tmp_path)
    assert verify_adapter(one, key=key).name == ONE
    assert audited(store) == [[ONE]]
    two = unsigned(store, tmp_path, TWO)  # somebody puts it there later
    assert signing_key(store, tmp_path) == key
    with pytest.raises(AdapterError, match=f"{TWO} is not signed"):
        verify_adapter(two, key=key)
    assert audited(store) == [[ONE]]


def test_a_damaged_or_unknown_adapter_of_an_earlier_version_is_not_signed(store, tmp_path):
    damaged = unsigned(store, tmp_path, ONE)
    (damaged / "extra.json").write_text("{}")
    unknown = unsigned(store, tmp_path, TWO)
    unknown.rename(unknown.with_name("policy-000009"))  # the store names no such adapter
    before = [file.read_bytes() for file in sorted(tmp_path.rglob("manifest.json"))]
    signing_key(store, tmp_path)
    assert [file.read_bytes() for file in sorted(tmp_path.rglob("manifest.json"))] == before
    assert store.signed_since() is not None and audited(store) == []
