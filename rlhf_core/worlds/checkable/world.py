"""The checkable world as a whole: its prompts, the tastes of the run, and who visits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInputError
from rlhf_core.gate.probes.tastes import DEFAULT_TASTES, Taste, parse_tastes
from rlhf_core.worlds.checkable.judge import in_force
from rlhf_core.worlds.checkable.prompts import CheckablePrompt, read_prompts
from rlhf_core.worlds.checkable.requests import built_in_requests
from rlhf_core.worlds.checkable.visitors import TasteVisitor, visitors


@dataclass(frozen=True, slots=True)
class CheckableWorld:
    """Prompts, each asked by visitors or kept for measuring, and the tastes in force on all."""

    prompts: tuple[CheckablePrompt, ...]
    tastes: tuple[Taste, ...]

    @classmethod
    def of(cls, tastes: Sequence[str] = (), file: Path | None = None) -> "CheckableWorld":
        """The world of these tastes and of the prompts in a file.

        Args:
            tastes: As they are written. If none is given, the instructions that the prompts carry
                are in force alone; if they carry none, `DEFAULT_TASTES`.
            file: See `read_prompts`; by default the built-in requests.

        Raises:
            InvalidInputError: A taste or the file makes no sense, or nothing is left to ask, to
                measure or to check.
        """
        prompts = built_in_requests() if file is None else read_prompts(file)
        carry = any(prompt.instructions or prompt.unchecked for prompt in prompts)
        wished = parse_tastes(tastes or (() if carry else DEFAULT_TASTES))
        judged = tuple(prompt for prompt in prompts if in_force(prompt, wished))
        if len({prompt.kept for prompt in judged}) < 2:
            raise InvalidInputError(
                f"{len(judged)} prompts in {file} are too few to ask some and keep some for "
                "measuring; give about 20 or more, with instructions that can be checked or a taste"
            )
        return cls(judged, wished)

    @property
    def asked(self) -> list[CheckablePrompt]:
        """The prompts that visitors ask."""
        return [prompt for prompt in self.prompts if not prompt.kept]

    @property
    def kept(self) -> list[CheckablePrompt]:
        """The prompts that nobody votes on."""
        return [prompt for prompt in self.prompts if prompt.kept]

    @property
    def unchecked(self) -> Counter[str]:
        """How many prompts carry each kind of instruction that is not checked."""
        return Counter(name for prompt in self.prompts for name in prompt.unchecked)

    def facts(self) -> dict[str, Any]:
        """The world as plain values."""
        return {
            "tastes": [taste.text for taste in self.tastes],
            "prompts": len(self.prompts),
            "kept": len(self.kept),
            "unchecked": dict(self.unchecked),
        }

    def visitors(self, n: int, seed: int) -> list[TasteVisitor]:
        """`n` visitors, the same for the same seed."""
        return visitors(n, seed, prompts=self.asked, tastes=self.tastes)
