"""The prompts of the checkable world: whose they are, which are kept for measuring, and files.

Invariant: a hash of a prompt's text says whether visitors may ask it or whether it is **kept**, for
ever. So satisfaction can be measured on prompts that nobody voted on. A file is read whole or
refused in one line with the number of the line; nothing in it is guessed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes.documents import kind_of, read_documents
from rlhf_core.gate.probes.ifeval import read_instructions
from rlhf_core.gate.probes.tastes import Taste

KEPT_PERCENT = 30


@dataclass(frozen=True, slots=True)
class CheckablePrompt:
    """What a visitor asks, and the instructions in it that can be checked.

    Attributes:
        text: The whole request.
        instructions: What the prompt itself wishes, as tastes.
        unchecked: Kinds of its instructions that nothing here can check.
    """

    text: str
    instructions: tuple[Taste, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether no visitor asks it, so that replies to it can be measured."""
        digest = hashlib.sha256(f"checkable:{self.text}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % 100 < KEPT_PERCENT


def read_prompts(path: Path) -> list[CheckablePrompt]:
    """The prompts of a file, each once.

    A name that ends with `.json` is a JSON list, one that ends with `.jsonl` has a JSON document a
    line, anything else a prompt a line. A document is a text, or has one of: `prompt` (as in
    IFEval, with `instruction_id_list` and `kwargs` if it carries instructions), `turns` (as in
    MT-bench, the first is asked), `messages` (the first of the user is asked), or `text`.

    Raises:
        InvalidInputError: The file cannot be read, a line is none of these, or there is no prompt.
    """
    found: dict[str, CheckablePrompt] = {}
    for number, document in read_documents(path):
        try:
            prompt = _prompt(document)
        except InvalidInputError as exc:
            raise InvalidInputError(f"{path} line {number}: {exc}") from exc
        found.setdefault(prompt.text, prompt)
    if not found:
        raise InvalidInputError(f"{path} has no prompt; write one a line")
    return list(found.values())


def _prompt(document: Any) -> CheckablePrompt:
    if isinstance(document, str):
        return CheckablePrompt(_text(document))
    if not isinstance(document, dict):
        raise InvalidInputError(f"{kind_of(document)}; give a text or an object with `prompt`")
    names, kwargs = document.get("instruction_id_list", []), document.get("kwargs", [])
    lists = isinstance(names, list) and isinstance(kwargs, list)
    if not lists or not all(isinstance(k, dict) or k is None for k in kwargs):
        raise InvalidInputError("`instruction_id_list` and `kwargs` must be lists, as in IFEval")
    instructions, unchecked = read_instructions(names, [k or {} for k in kwargs] if names else [])
    return CheckablePrompt(_text(_asked_in(document)), instructions, unchecked)


def _asked_in(document: dict[str, Any]) -> Any:
    """The text that a document asks, whatever it calls it."""
    for name in ("prompt", "text"):
        if name in document:
            return document[name]
    turns = document.get("turns")
    if isinstance(turns, list) and turns:
        return turns[0]
    messages = document.get("messages")
    if isinstance(messages, list):
        users = [m for m in messages if isinstance(m, dict) and m.get("role") == "user"]
        if users:
            return users[0].get("content")
    raise InvalidInputError(
        "an object without a prompt; name it `prompt`, `turns`, `messages` or `text`"
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"the prompt is {kind_of(value)}; write a text")
    return value.strip()
