"""The examples in `deploy/vllm/` are read here as far as that goes without containers and GPUs."""

import shlex
from collections.abc import Iterable, Sequence
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from chat_app.settings import Settings, load_settings
from rlhf_core.config import LoraSettings

FOLDER = Path(__file__).parents[4] / "deploy" / "vllm"
COMPOSE = sorted(FOLDER.glob("*.yaml"))
UNITS = sorted(FOLDER.glob("*.service"))


class Tagged(yaml.SafeLoader):
    """Reads compose's own marks, such as `!override`, as if they were not there."""


def _unmarked(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_object(yaml.ScalarNode("tag:yaml.org,2002:null", ""))


Tagged.add_multi_constructor("!", _unmarked)


def services(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.load(file.read_text(), Tagged)["services"]
    return read


def unit(file: Path) -> dict[str, list[str]]:
    """The lines of a unit's service by name."""
    parser = RawConfigParser(strict=False, delimiters=("=",), dict_type=_Collected)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(file.read_text())
    return {name: value.splitlines() for name, value in parser["Service"].items()}


class _Collected(dict[Any, Any]):
    """Keeps all lines of one name, which systemd allows and INI files do not."""

    def __setitem__(self, key: Any, value: Any) -> None:
        before = self.get(key)
        repeated = isinstance(before, list) and isinstance(value, list)
        super().__setitem__(key, [*before, *value] if repeated else value)


def options(words: Sequence[str]) -> dict[str, str]:
    """The options of a command; those without a value are empty."""
    found, names = {}, [word.partition("=") for word in words]
    for (name, _, value), after in zip(names, [*words[1:], "--"], strict=True):
        if name.startswith("--"):
            found[name] = value or ("" if after.startswith("--") else after)
    return found


def require_vllm(words: Sequence[str], variables: Iterable[str]) -> None:
    """A server that engine and cycles can use: it loads adapters of both while it runs."""
    given = options(words)
    of_the_chat, of_a_cycle = Settings().engine.kept_adapters + 2, 1  # of a trial, too
    assert int(given["--max-loras"]) >= of_the_chat + of_a_cycle
    assert given["--logprobs-mode"] == "processed_logprobs", "as sampled, at any temperature"
    assert "--enable-lora" in given and given["--generation-config"] == "vllm"
    assert int(given["--max-lora-rank"]) >= LoraSettings().rank
    assert int(given.get("--max-model-len", "9999")) > Settings().reply.window
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in set(variables)


def require_service(words: Sequence[str]) -> None:
    """Options that the service accepts."""
    given = options(words[2:])
    urls = given["--vllm-url"].removeprefix("${VLLM_URLS:-").removesuffix("}")
    engine = {"kind": given["--engine"], "vllm_urls": urls}
    assert load_settings(engine=engine).engine.vllm_urls
    assert words[1] == "serve" and given["--data"] and given["--model"]


def test_there_are_examples_of_each_kind() -> None:
    assert len(COMPOSE) == 4 and len(UNITS) == 3
    everything = "".join(file.read_text() for file in (*COMPOSE, *UNITS))
    for what in ("--tensor-parallel-size", "--distributed-executor-backend ray", "vllm-1"):
        assert what in everything
    assert all("ntested" in file.read_text() for file in (*COMPOSE, *UNITS))


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_a_compose_file_starts_what_the_engine_can_use(file: Path) -> None:
    for name, service in services(file).items():
        if "command" not in service:
            assert service["extends"]["service"] in services(FOLDER / service["extends"]["file"])
        elif name == "chat":
            require_service(service["command"])
            ports = service.get("ports", ())
            assert all(port.startswith("127.0.0.1:") for port in ports), "beyond this machine"
        else:
            beside = services(FOLDER / "compose.yaml")["vllm-0"]["environment"]
            variables = beside | service.get("environment", {})
            require_vllm(service["command"], (f"{k}={v}" for k, v in variables.items()))
            assert "ports" not in service, "nobody but the service may reach it"


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_a_unit_starts_what_the_engine_can_use(file: Path) -> None:
    lines = unit(file)
    words = shlex.split(lines["ExecStart"][0])
    if words[0].endswith("feedback-chat"):
        require_service(words)
    else:
        assert options(words)["--host"] == "127.0.0.1"
        require_vllm(words, lines["Environment"])
    assert lines["Restart"] == ["always"]
