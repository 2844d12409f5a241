"""Whatever somebody without the key does to an adapter's directory, it is refused and nothing else.

Every tampering is done to a real signed adapter of its own; then a real engine is asked to load it,
and the store's row is made to name it. The service goes on answering from the adapter it has.
"""

import asyncio
import itertools
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from chat_app.errors import RefusedError
from rlhf_core.cycle.signing import adapter_key
from rlhf_core.errors import AdapterError
from rlhf_core.model.adapters import (
    MANIFEST,
    Manifest,
    _describe,
    _signed,
    sign_adapter,
    verify_adapter,
)
from tests.chat_app.serving import Running, publish_copy, running, until

SERVED, OTHER = "policy-000001", "policy-000002"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FOREIGN_KEY = b"the key of another installation"

Tamper = Callable[[Path], object]


# Bytes of a file


def flip(file: str, at: float, path: Path) -> None:
    data = bytearray((path / file).read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    (path / file).write_bytes(data)


def cut(file: str, share: float, path: Path) -> None:
    data = (path / file).read_bytes()
    (path / file).write_bytes(data[: int(share * len(data))])


def extend(file: str, more: bytes, path: Path) -> None:
    (path / file).write_bytes((path / file).read_bytes() + more)


# What a file holds


def change_weights(change: Callable[[dict[str, Any]], object], path: Path) -> None:
    weights = load_file(path / WEIGHTS)
    change(weights)
    save_file(weights, path / WEIGHTS)


def set_first(change: Callable[[torch.Tensor], torch.Tensor]) -> Tamper:
    """Change the first matrix; a whole one, so that a mean shows it, too."""

    def apply(weights: dict[str, Any]) -> None:
        name = min(weights)
        weights[name] = change(weights[name]).contiguous()

    return partial(change_weights, apply)


def rename_first(weights: dict[str, Any]) -> None:
    weights["base_model.other"] = weights.pop(min(weights))


def add_one(weights: dict[str, Any]) -> None:
    weights["base_model.other"] = torch.ones(2)


def drop_one(weights: dict[str, Any]) -> None:
    del weights[min(weights)]


def set_config(fields: dict[str, Any], path: Path) -> None:
    config = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps({**config, **fields}))


def write(file: str, content: bytes, path: Path) -> None:
    (path / file).parent.mkdir(exist_ok=True)
    (path / file).write_bytes(content)


# The directory


def replace_by_link(file: str, path: Path) -> None:
    (path / file).rename(aside := path.parent.parent / f"aside-{path.name}")
    (path / file).symlink_to(aside)


def add_name(file: str, path: Path) -> None:
    os.link(path / file, path.parent.parent / f"aside-{path.name}")


def become_link(path: Path) -> None:
    path.rename(aside := path.parent.parent / f"aside-{path.name}")
    path.symlink_to(aside)


def remove(file: str, path: Path) -> None:
    (path / file).unlink()


def make_pipe(path: Path) -> None:
    os.mkfifo(path / "pipe.json")


def take(file: str, path: Path) -> None:
    """Another adapter's file, of the same kind and size."""
    shutil.copy2(path.parent / OTHER / file, path / file)


def become_other(path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(path.parent / OTHER, path)


# The manifest


def set_manifest(fields: dict[str, Any], path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, **fields}))


def unlist_config(path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["files"][CONFIG]
    (path / MANIFEST).write_text(json.dumps(manifest))
    remove(CONFIG, path)


def forge(path: Path, key: bytes | None = None) -> None:
    """Write the checksums anew; without a key the old signature stays."""
    manifest = json.loads((path / MANIFEST).read_text())
    files = (p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST)
    manifest["files"] = {str(p.relative_to(path)): _describe(p) for p in files}
    if key is not None:
        manifest = asdict(_signed(Manifest(**manifest), key))
    (path / MANIFEST).write_text(json.dumps(manifest))


def forged(tamper: Tamper, key: bytes | None = None) -> Tamper:
    """A tampering by somebody who writes new checksums."""

    def apply(path: Path) -> None:
        tamper(path)
        forge(path, key)

    return apply


def signed_here(tamper: Tamper) -> Tamper:
    """A tampering that the installation itself signed: the second line of defence."""

    def apply(path: Path) -> None:
        tamper(path)
        forge(path, adapter_key(path.parent.parent))

    return apply


DEEP = b"[" * 100_000
BYTES: dict[str, Tamper] = {
    **{f"weights flipped at {at}": partial(flip, WEIGHTS, at) for at in (0, 0.01, 0.5, 1)},
    **{f"weights cut to {s}": partial(cut, WEIGHTS, s) for s in (0, 0.001, 0.5, 0.999)},
    "weights extended": partial(extend, WEIGHTS, b"\0"),
    "config flipped": partial(flip, CONFIG, 0.5),
    "config cut": partial(cut, CONFIG, 0.5),
    "config extended": partial(extend, CONFIG, b" "),
    "a pickle in place of the weights": partial(write, WEIGHTS, pickle.dumps({"a": 1})),
    "a missing file of weights": partial(remove, WEIGHTS),
    "a missing config": partial(remove, CONFIG),
    "weights of another adapter": partial(take, WEIGHTS),
}
# what training never writes, so it is refused even if it is signed
ABSURD: dict[str, Tamper] = {
    "a NaN": set_first(lambda t: t.fill_(float("nan"))),
    "an infinity": set_first(lambda t: t.fill_(float("inf"))),
    "weights 100 times as large": set_first(lambda t: t * 100),
    "weights a million times as large": set_first(lambda t: t * 1e6),
    "a missing matrix": partial(change_weights, drop_one),
    "another matrix": partial(change_weights, add_one),
    "a renamed matrix": partial(change_weights, rename_first),
    "a matrix of another shape": set_first(lambda t: t[:, :-1]),
    "a transposed matrix": set_first(lambda t: t.T),
    "bfloat16": set_first(lambda t: t.to(torch.bfloat16)),
    "float64": set_first(lambda t: t.double()),
    "integers": set_first(lambda t: t.to(torch.int64)),
    "no JSON in the config": partial(write, CONFIG, b"{"),
    "a list as the config": partial(write, CONFIG, b"[]"),
    "a deep config": partial(write, CONFIG, DEEP),
    "a config that is not UTF-8": partial(write, CONFIG, b'{"r": "\xff"}'),
    **{
        f"config {json.dumps(fields)}": partial(set_config, fields)
        for fields in (
            {"peft_type": "IA3"},
            {"peft_type": None},
            {"task_type": "SEQ_CLS"},
            {"auto_mapping": {"base_model_class": "X", "parent_library": "os"}},
            {"modules_to_save": ["lm_head"]},
            {"layer_replication": [[0, 2], [0, 2]]},
            {"megatron_config": {"a": 1}},
            {"megatron_core": "os"},
            {"target_modules": ["q_proj"]},
            {"target_modules": ["nothing"]},
            {"target_modules": None},
            {"target_parameters": ["x"]},
            {"trainable_token_indices": [1]},
            {"r": 8},
            {"r": -1},
            {"rank_pattern": {"q_proj": 8}},
            {"alpha_pattern": {"q_proj": 9999}},
            {"lora_alpha": "32"},
            {"lora_dropout": 0.9},
            {"bias": "all"},
            {"use_dora": True},
            {"use_rslora": True},
            {"init_lora_weights": "pissa"},
            {"revision": "main"},
            {"unheard_of": 1},
        )
    },
}
DIRECTORY: dict[str, Tamper] = {
    **{f"a link to {file}": partial(replace_by_link, file) for file in (WEIGHTS, CONFIG, MANIFEST)},
    **{f"another name of {file}": partial(add_name, file) for file in (WEIGHTS, CONFIG, MANIFEST)},
    "a link to the directory": become_link,
    "the directory of another adapter": become_other,
    "a pipe": make_pipe,
    **{
        f"one more file {name}": partial(write, name, b"{}")
        for name in ("notes.json", "adapter_model.bin", "code.py", "m0/adapter_config.json")
    },
}
MANIFESTS: dict[str, Tamper] = {
    "no manifest": partial(remove, MANIFEST),
    "half a manifest": partial(cut, MANIFEST, 0.5),
    "a deep manifest": partial(write, MANIFEST, DEEP),
    "a huge manifest": partial(extend, MANIFEST, b" " * 1_000_000),
    "a manifest that is not UTF-8": partial(write, MANIFEST, b"\xff"),
    "a list as the manifest": partial(write, MANIFEST, b"[]"),
    "a file less than there was": unlist_config,
    "the key of another installation": lambda path: sign_adapter(path, FOREIGN_KEY),
    **{
        f"manifest {json.dumps(fields)}": partial(set_manifest, fields)
        for fields in (
            {"name": OTHER},
            {"kind": "reward"},
            {"kind": ["policy"]},
            {"base": "another"},
            {"parent": "another"},
            {"extra": {"cycle": 99}},
            {"files": {}},
            {"files": None},
            {"signature": None},
            {"signature": ""},
            {"signature": "0" * 64},
            {"signature": 0},
            {"signature": "\u00e9"},
            {"signature": "\ud800"},
            {"files": {WEIGHTS: {"bytes": float("inf")}}},
            {"files": {WEIGHTS: {"bytes": -1}}},
            {"unheard_of": 1},
        )
    },
}
TAMPERINGS: dict[str, Tamper] = {
    **BYTES,
    **ABSURD,
    **DIRECTORY,
    **MANIFESTS,
    **{f"{name}, new checksums": forged(t) for name, t in {**BYTES, **ABSURD}.items()},
    **{f"{name}, another key": forged(t, FOREIGN_KEY) for name, t in {**BYTES, **ABSURD}.items()},
    **{f"{name}, signed here": signed_here(tamper) for name, tamper in ABSURD.items()},
}


@pytest.fixture(scope="module")
def service(
    tiny_model: Path, tiny_adapters: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A service that serves an adapter, with another one beside it."""
    data = tmp_path_factory.mktemp("data")
    with running(data, tiny_model) as service:
        for name in (SERVED, OTHER):
            publish_copy(tiny_adapters / name, data, name)
            service.service.store.register_adapter(name, kind="policy", state="published")
        service.service.promote(SERVED)
        until(lambda: service.service.adapter == SERVED)
        yield service


NUMBERS = itertools.count(100)


@pytest.fixture
def adapter(service: Running, tiny_adapters: Path) -> Path:
    """A signed and published adapter of the test's own, which verifies."""
    name, data = f"policy-{next(NUMBERS):06d}", service.service.settings.data
    publish_copy(tiny_adapters / SERVED, data, name)
    service.service.store.register_adapter(name, kind="policy", state="published")
    path = data / "adapters" / name
    verify_adapter(path, key=adapter_key(data), kind="policy")
    return path


def answer(service: Running) -> tuple[str, str]:
    """Which adapter answers, and what it says."""
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "seed": 1}
    with service.client() as client:
        found = client.post("/v1/chat/completions", json=body).json()
    return found["model"], found["choices"][0]["message"]["content"]


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_adapter_is_refused_and_the_service_goes_on_as_it_was(
    service: Running, adapter: Path, tampering: str
) -> None:
    store, engine = service.service.store, service.service.engine
    before, loaded = store.serving(), engine.health()["adapters"]
    said = answer(service)
    TAMPERINGS[tampering](adapter)
    with pytest.raises(AdapterError):
        asyncio.run(engine.load(adapter.name, adapter))
    store.serve(adapter.name, by="a process that does not look")
    until(lambda: store.serving().adapter != adapter.name)
    after = store.serving()
    assert (after.adapter, after.previous) == (before.adapter, before.previous)
    assert engine.health()["adapters"] == loaded
    assert answer(service) == said and said[0] == SERVED


@pytest.mark.parametrize(
    "tampering", [*DIRECTORY, *MANIFESTS, *(n for n in TAMPERINGS if n.endswith("new checksums"))]
)
def test_a_tampered_adapter_is_not_promoted(
    service: Running, adapter: Path, tampering: str
) -> None:
    before = service.service.store.serving()
    TAMPERINGS[tampering](adapter)
    with pytest.raises(RefusedError, match=adapter.name):
        service.service.promote(adapter.name)
    assert service.service.store.serving() == before


def test_a_reward_adapter_is_served_under_no_name(service: Running, tiny_adapters: Path) -> None:
    """Its directory is whole and signed, and only its kind tells it from a policy."""
    name, data = f"policy-{next(NUMBERS):06d}", service.service.settings.data
    publish_copy(tiny_adapters / SERVED, data, name, kind="reward")
    service.service.store.register_adapter(name, kind="policy", state="published")
    with pytest.raises(RefusedError, match="'reward' adapter; here only a policy adapter"):
        service.service.promote(name)
    with pytest.raises(AdapterError, match="only a policy"):
        asyncio.run(service.service.engine.load(name, data / "adapters" / name))


def test_an_adapter_that_nobody_touched_is_served(service: Running, adapter: Path) -> None:
    service.service.promote(adapter.name)
    until(lambda: service.service.adapter == adapter.name)
    assert service.service.rollback().serving.adapter == SERVED
    until(lambda: service.service.adapter == SERVED)
