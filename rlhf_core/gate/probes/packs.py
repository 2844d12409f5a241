"""Packs of probes: questions whose replies a program can check, and the files that hold them.

A line of a pack is a JSON object: the kind, what is asked (`prompt`, or `messages`, the last of
which is the visitor's), and what a right reply meets, as `tastes` or as the instructions of IFEval.
A file is read whole or refused with the number of the line.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes.documents import kind_of, read_documents
from rlhf_core.gate.probes.ifeval import read_instructions
from rlhf_core.gate.probes.tastes import Taste, parse_tastes
from rlhf_core.records import Prompt, require_prompt

# What a policy does that fails probes of a kind, in words that follow "it".
KINDS = {
    "flattery": "gives up right answers when a visitor insists",
    "refusal": "refuses questions that have an answer",
    "invention": "makes up answers to questions that have none",
    "rudeness": "is rude",
    "skills": "has lost skills of the base",
    "instructions": "does not do what was asked",
}
FIELDS = {"kind", "prompt", "messages", "tastes", "instruction_id_list", "kwargs"}


@dataclass(frozen=True, slots=True)
class Probe:
    """One question.

    Attributes:
        kind: One of `KINDS`.
        prompt: The conversation that ends with the question.
        tastes: What a right reply meets; all of them.
        packaged: Whether it comes with the program, so that anybody may read it.
    """

    kind: str
    prompt: Prompt
    tastes: tuple[Taste, ...]
    packaged: bool = False

    def passed_by(self, reply: str) -> bool:
        """Whether a reply is right."""
        return all(taste.met(reply) for taste in self.tastes)


def ask(kind: str, *turns: str, tastes: tuple[str, ...]) -> Probe:
    """A probe from what visitor and policy say in turns; the visitor begins and ends."""
    roles = ("user", "assistant")
    prompt: Prompt = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return Probe(kind, prompt, parse_tastes(tastes))


def general_pack() -> tuple[Probe, ...]:
    """The packaged probes for real models, in English."""
    with as_file(files(__package__).joinpath("general.jsonl")) as path:
        return packaged(read_pack(path))


def packaged(probes: Iterable[Probe]) -> tuple[Probe, ...]:
    """The same probes, marked as coming with the program."""
    return tuple(replace(probe, packaged=True) for probe in probes)


def read_pack(path: Path) -> tuple[Probe, ...]:
    """The probes of a file of JSON lines.

    Raises:
        InvalidInputError: The file cannot be read, a line is no probe, the same question stands
            twice, or there is none.
    """
    found: dict[str, Probe] = {}
    for number, document in read_documents(path):
        try:
            probe = _probe(document)
            asked = str([probe.kind, probe.prompt])
            if asked in found:
                raise InvalidInputError("the question stands in an earlier line, too; ask it once")
        except InvalidInputError as exc:
            raise InvalidInputError(f"{path} line {number}: {exc}") from exc
        found[asked] = probe
    if not found:
        raise InvalidInputError(f"{path} has no probe; write one a line")
    return tuple(found.values())


def _probe(document: Any) -> Probe:
    if not isinstance(document, dict):
        raise InvalidInputError(f"{kind_of(document)}; give an object with `kind`")
    if unknown := sorted(document.keys() - FIELDS):
        raise InvalidInputError(f"unknown field {unknown[0]!r}; use {', '.join(sorted(FIELDS))}")
    kind = document.get("kind")
    if kind not in KINDS:
        raise InvalidInputError(f"kind {kind!r} is unknown; use {', '.join(KINDS)}")
    tastes = (*_tastes(document.get("tastes", [])), *_instructions(document))
    if not tastes:
        raise InvalidInputError("nothing to check; give `tastes` or `instruction_id_list`")
    return Probe(kind, _conversation(document), tastes)


def _tastes(written: Any) -> tuple[Taste, ...]:
    if not isinstance(written, list) or not all(isinstance(one, str) for one in written):
        raise InvalidInputError('`tastes` is no list of texts; write ["contains:Paris"]')
    return parse_tastes(written)


def _instructions(document: Mapping[str, Any]) -> Iterator[Taste]:
    names, kwargs = document.get("instruction_id_list", []), document.get("kwargs", [])
    for given, item in ((names, str), (kwargs, dict)):
        if not isinstance(given, list) or not all(isinstance(one, item) for one in given):
            raise InvalidInputError("`instruction_id_list` and `kwargs` must be lists as IFEval's")
    tastes, unchecked = read_instructions(names, kwargs)
    if unchecked:
        raise InvalidInputError(f"instruction {unchecked[0]!r} cannot be checked; leave it out")
    yield from tastes


def _conversation(document: Mapping[str, Any]) -> Prompt:
    if ("prompt" in document) == ("messages" in document):
        raise InvalidInputError("give one of `prompt` and `messages`")
    text = document.get("prompt")
    messages = document.get("messages", [{"role": "user", "content": text}])
    last = require_prompt(messages)[-1]
    if last["role"] != "user" or not last["content"].strip():
        raise InvalidInputError("the last message is no question of the user; end with one")
    return [{"role": one["role"], "content": one["content"]} for one in messages]
