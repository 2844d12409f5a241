import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf_core.errors import AdapterError
from rlhf_core.model.adapter_files import CARD, MAX_CARD_BYTES
from rlhf_core.model.adapters import (
    MANIFEST,
    publish_adapter,
    sign_adapter,
    verify_adapter,
)

WEIGHTS = "adapter_model.safetensors"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


def publish(
    root: Path,
    name: str = "policy-000001",
    key: bytes | None = None,
    card: str | bytes | None = None,
) -> Path:
    staging = root / f"{name}.staging"
    staging.mkdir(parents=True)
    if card is not None:
        (staging / CARD).write_bytes(card.encode() if isinstance(card, str) else card)
    save_file({"a": torch.ones(4, 2), "b": torch.zeros(3)}, staging / WEIGHTS)
    (staging / "adapter_config.json").write_text(json.dumps(CONFIG))
    publish_adapter(
        staging, root / name, kind="policy", base="tiny-1", parent="policy-000000", key=key
    )
    return root / name


def test_a_published_adapter_verifies_and_names_its_origin(tmp_path):
    manifest = verify_adapter(publish(tmp_path), base="tiny-1")
    assert (manifest.name, manifest.kind, manifest.parent) == (
        "policy-000001",
        "policy",
        "policy-000000",
    )
    assert set(manifest.files) == {WEIGHTS, "adapter_config.json"}
    assert not (tmp_path / "policy-000001.staging").exists()


def flip_a_bit(path: Path) -> None:
    data = bytearray((path / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (path / WEIGHTS).write_bytes(data)


def truncate(path: Path) -> None:
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-4])


def add_a_file(path: Path) -> None:
    (path / "notes.json").write_text("{}")


def add_a_pickle(path: Path) -> None:
    (path / "adapter_model.bin").write_bytes(pickle.dumps({"a": 1}))


def remove_a_file(path: Path) -> None:
    (path / WEIGHTS).unlink()


def replace_by_a_link(path: Path) -> None:
    (path / WEIGHTS).rename(path.parent / "elsewhere.safetensors")
    (path / WEIGHTS).symlink_to(path.parent / "elsewhere.safetensors")


def drop_a_tensor(path: Path) -> None:
    save_file({"a": load_file(path / WEIGHTS)["a"]}, path / WEIGHTS)


def change_the_config(path: Path) -> None:
    (path / "adapter_config.json").write_text('{"base_model_name_or_path": "evil"}')


def lose_the_manifest(path: Path) -> None:
    (path / MANIFEST).unlink()


def break_the_manifest(path: Path) -> None:
    (path / MANIFEST).write_text((path / MANIFEST).read_text()[:-10])


def rename_it(path: Path) -> None:
    text = (path / MANIFEST).read_text().replace("policy-000001", "policy-000002")
    (path / MANIFEST).write_text(text)


def list_a_file_outside(path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"]["../outside.json"] = {"bytes": 2, "sha256": "00"}
    (path.parent / "outside.json").write_text("{}")
    (path / MANIFEST).write_text(json.dumps(manifest))


TAMPERINGS = [
    flip_a_bit,
    truncate,
    add_a_file,
    add_a_pickle,
    remove_a_file,
    replace_by_a_link,
    drop_a_tensor,
    change_the_config,
    lose_the_manifest,
    break_the_manifest,
    rename_it,
    list_a_file_outside,
]


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda f: f.__name__)
def test_a_tampered_adapter_is_refused(tmp_path, tamper):
    path = publish(tmp_path)
    tamper(path)
    with pytest.raises(AdapterError, match="policy-000001"):
        verify_adapter(path)


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda f: f.__name__)
def test_a_tampered_adapter_is_refused_before_it_is_parsed(tmp_path, base, tamper):
    path = publish(tmp_path)  # its weights fit no model, so parsing them would say so
    tamper(path)
    with pytest.raises(AdapterError, match="policy-000001") as refusal:
        base.attach("policy-000001", path)
    assert "lacks weights" not in str(refusal.value)
    assert base.adapters == set()


def test_an_adapter_of_another_base_is_refused(tmp_path):
    with pytest.raises(AdapterError, match="tiny-1, not tiny-2"):
        verify_adapter(publish(tmp_path), base="tiny-2")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_published(tmp_path, bad):
    staging = tmp_path / "staging"
    staging.mkdir()
    save_file({"a": torch.tensor([1.0, bad])}, staging / WEIGHTS)
    with pytest.raises(AdapterError, match="NaN"):
        publish_adapter(staging, tmp_path / "policy-000001", kind="policy", base="tiny-1")
    assert not (tmp_path / "policy-000001").exists()


def test_an_adapter_is_never_overwritten(tmp_path):
    path = publish(tmp_path)
    before = (path / MANIFEST).read_bytes()
    with pytest.raises(AdapterError, match="exists already"):
        publish(tmp_path)
    assert (path / MANIFEST).read_bytes() == before


def test_a_crash_before_the_manifest_leaves_no_adapter(tmp_path):
    (tmp_path / "policy-000002").mkdir()
    (tmp_path / "policy-000002" / WEIGHTS).write_bytes(b"half")
    with pytest.raises(AdapterError, match="no manifest"):
        verify_adapter(tmp_path / "policy-000002")


KEY, OTHER_KEY = b"a key of this installation", b"a key of another one"


def test_a_signed_adapter_verifies_with_its_key_alone(tmp_path):
    path = publish(tmp_path, key=KEY)
    assert verify_adapter(path, base="tiny-1", kind="policy", key=KEY).signature
    verify_adapter(path)
    with pytest.raises(AdapterError, match="another key"):
        verify_adapter(path, key=OTHER_KEY)


def test_an_unsigned_adapter_is_refused_where_a_key_is_asked_for_until_it_is_signed(tmp_path):
    path = publish(tmp_path)
    with pytest.raises(AdapterError, match="policy-000001 is not signed"):
        verify_adapter(path, key=KEY)
    before = {file.name for file in tmp_path.rglob("*")}
    assert sign_adapter(path, KEY) == verify_adapter(path, key=KEY)
    assert {file.name for file in tmp_path.rglob("*")} == before


def test_a_damaged_adapter_is_not_signed(tmp_path):
    path = publish(tmp_path)
    truncate(path)
    before = (path / MANIFEST).read_bytes()
    with pytest.raises(AdapterError, match="checksum"):
        sign_adapter(path, KEY)
    assert (path / MANIFEST).read_bytes() == before


def test_an_adapter_is_used_as_its_kind_alone(tmp_path):
    with pytest.raises(AdapterError, match="'policy' adapter; here only a reward adapter"):
        verify_adapter(publish(tmp_path), kind="reward")


@pytest.mark.parametrize(
    "setting", [{"r": 0}, {"r": True}, {"use_dora": True}, {"lora_alpha": "x"}]
)
def test_settings_that_training_never_writes_are_not_published(tmp_path, setting):
    staging = tmp_path / "staging"
    staging.mkdir()
    save_file({"a": torch.ones(2)}, staging / WEIGHTS)
    (staging / "adapter_config.json").write_text(json.dumps(CONFIG | setting))
    with pytest.raises(AdapterError, match=f"{min(setting)} as no adapter"):
        publish_adapter(staging, tmp_path / "policy-000001", kind="policy", base="tiny-1")


def test_weights_that_no_training_gives_are_not_published(tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    save_file({"a": torch.full((8, 8), 4.0)}, staging / WEIGHTS)
    with pytest.raises(AdapterError, match="root mean square of 4"):
        publish_adapter(staging, tmp_path / "policy-000001", kind="policy", base="tiny-1")


def test_a_card_is_signed_like_the_weights_and_an_adapter_without_one_is_as_good(tmp_path):
    with_card = publish(tmp_path, key=b"key", card="# An adapter")
    assert CARD in verify_adapter(with_card, key=b"key").files
    verify_adapter(publish(tmp_path, "policy-000002", key=b"key"), key=b"key")
    (with_card / CARD).write_text("# The best one")
    with pytest.raises(AdapterError, match=f"{CARD} does not match"):
        verify_adapter(with_card, key=b"key")


@pytest.mark.parametrize("card", [b"x" * (MAX_CARD_BYTES + 1), b"\xff\xfe"])
def test_a_card_that_is_too_long_or_no_text_is_not_published(tmp_path, card):
    with pytest.raises(AdapterError, match=CARD):
        publish(tmp_path, card=card)


def test_a_text_of_another_name_or_in_another_folder_is_refused(tmp_path):
    path = publish(tmp_path)
    for stray in (path / "NOTES.md", path / "docs" / CARD):
        stray.parent.mkdir(exist_ok=True)
        stray.write_text("hello")
        with pytest.raises(AdapterError, match=r"only \.json and \.safetensors are allowed"):
            verify_adapter(path)
        stray.unlink()
