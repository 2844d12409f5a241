"""What the names of models mean, and which files and directories are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.errors import ModelError
from rlhf_core.model.sources import FETCHED, STARTER_MODEL, Source, resolve


def adapter(path: Path, *, weights: str = "adapter_model.safetensors", **config: Any) -> Path:
    """A directory that looks like a LoRA adapter of the starter."""
    path.mkdir(exist_ok=True)
    stated = {"peft_type": "LORA", "base_model_name_or_path": "starter"} | config
    (path / "adapter_config.json").write_text(json.dumps(stated))
    (path / weights).touch()
    return path


def gguf(path: Path) -> Path:
    path.write_bytes(b"GGUF and more")
    return path


def test_the_starter_stands_before_a_directory_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "starter").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("starter") == Source("starter", str(STARTER_MODEL))
    assert resolve("./starter") == Source("directory", "./starter")


def test_a_directory_is_a_model_or_an_adapter_and_any_other_name_is_an_id(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == Source("directory", str(tmp_path))
    assert resolve("someone/model-1.5") == Source("hub", "someone/model-1.5")
    path = str(adapter(tmp_path / "adapter"))
    assert resolve(path) == Source("adapter", path, Source("starter", str(STARTER_MODEL)))


@pytest.mark.parametrize("name", ["model.gguf", "Model.Q8_0.GGUF"])
def test_a_gguf_file_is_known_by_its_name_and_its_first_bytes(tmp_path: Path, name: str) -> None:
    file = gguf(tmp_path / name)
    assert resolve(str(file)) == Source("gguf", str(file))
    file.write_bytes(b"PK\3\4")
    with pytest.raises(ModelError, match=r"not a GGUF file: it begins with b'PK"):
        resolve(str(file))
    file.unlink()
    with pytest.raises(ModelError, match="No such file"):
        resolve(str(file))
    file.mkdir()
    with pytest.raises(ModelError, match="Is a directory"):
        resolve(str(file))


def test_a_part_of_a_gguf_file_is_refused(tmp_path: Path) -> None:
    file = gguf(tmp_path / "big-00001-of-00002.gguf")
    with pytest.raises(ModelError, match="one part of a GGUF file; join the parts"):
        resolve(str(file))


@pytest.mark.parametrize("name", ["model.whl", "model.zip", "model.safetensors"])
def test_any_other_file_is_refused_with_what_may_be_given(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match=rf"{name}' is not a model; give a \.gguf file \(unpack"):
        resolve(str(tmp_path / name))


def test_a_fetched_model_is_a_file_in_the_cache(tmp_path: Path) -> None:
    for cache in (None, tmp_path):
        with pytest.raises(ModelError, match=r"'smollm2' is not there yet.*fetch smollm2"):
            resolve("smollm2", cache)
    file = gguf(tmp_path / FETCHED["smollm2"])
    assert resolve("smollm2", tmp_path) == Source("gguf", str(file))


def test_the_base_of_an_adapter_may_be_a_fetched_model(tmp_path: Path) -> None:
    file = gguf(tmp_path / FETCHED["smollm2"])
    path = adapter(tmp_path / "adapter", base_model_name_or_path="smollm2")
    assert resolve(str(path), tmp_path).base == Source("gguf", str(file))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"peft_type": "IA3"}, "of type 'IA3'; only LORA"),
        ({"weights": "adapter_model.bin"}, "has no adapter_model.safetensors; save it with"),
        ({"base_model_name_or_path": None}, "does not name its base model; correct base_model"),
        ({"base_model_name_or_path": "/gone/model"}, "is not here: /gone/model; correct base_mo"),
        ({"base_model_name_or_path": "../gone"}, "is not here: ../gone; correct base_model"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused(
    tmp_path: Path, wrong: dict[str, Any], says: str
) -> None:
    path = adapter(tmp_path / "adapter", **wrong)
    with pytest.raises(ModelError, match=says):
        resolve(str(path))


def test_an_adapter_on_an_adapter_is_refused_even_if_it_names_itself(tmp_path: Path) -> None:
    below = adapter(tmp_path / "below")
    path = adapter(tmp_path / "adapter", base_model_name_or_path=str(below))
    with pytest.raises(ModelError, match=f"is an adapter, too: {below}"):
        resolve(str(path))
    adapter(path, base_model_name_or_path=str(path))
    with pytest.raises(ModelError, match=f"is an adapter, too: {path}"):
        resolve(str(path))


@pytest.mark.parametrize("text", ["{broken", "[]", "\xff"])
def test_a_damaged_configuration_of_an_adapter_is_one_line(tmp_path: Path, text: str) -> None:
    (adapter(tmp_path / "adapter") / "adapter_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"^[^\n]*adapter_config\.json [^\n]*$"):
        resolve(str(tmp_path / "adapter"))
