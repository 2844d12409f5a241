"""From comparisons to a better adapter: the base, three training stages, evaluation, gate, cycle.

It is also a library: each stage takes plain records and settings, and trains adapters on one shared
base. A name is loaded when it is first used, so a program pays only for what it uses. Nothing here
knows the web, and only `cycle` knows the store.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhf_core.config import (
        GateSettings,
        LoraSettings,
        PolicySettings,
        ReplySettings,
        RewardSettings,
        SFTSettings,
    )
    from rlhf_core.errors import RLHFError
    from rlhf_core.gate.evaluation import Evaluation, evaluate
    from rlhf_core.model.base_model import Base, Response
    from rlhf_core.model.loading import load_base
    from rlhf_core.records import ChatMessage, Comparison, Demonstration, Prompt, Unpaired
    from rlhf_core.reward.reward_model import RewardModel
    from rlhf_core.train_policy import train_policy
    from rlhf_core.train_reward import train_reward
    from rlhf_core.train_sft import train_sft

__all__ = [
    "Base",
    "ChatMessage",
    "Comparison",
    "Demonstration",
    "Evaluation",
    "GateSettings",
    "LoraSettings",
    "PolicySettings",
    "Prompt",
    "RLHFError",
    "ReplySettings",
    "Response",
    "RewardModel",
    "RewardSettings",
    "SFTSettings",
    "Unpaired",
    "evaluate",
    "load_base",
    "train_policy",
    "train_reward",
    "train_sft",
]

_HOMES = {
    "model.base_model": ("Base", "Response"),
    "model.loading": ("load_base",),
    "config": (
        "GateSettings",
        "LoraSettings",
        "PolicySettings",
        "ReplySettings",
        "RewardSettings",
        "SFTSettings",
    ),
    "errors": ("RLHFError",),
    "gate.evaluation": ("Evaluation", "evaluate"),
    "records": ("ChatMessage", "Comparison", "Demonstration", "Prompt", "Unpaired"),
    "reward.reward_model": ("RewardModel",),
    "train_policy": ("train_policy",),
    "train_reward": ("train_reward",),
    "train_sft": ("train_sft",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


class _Package(ModuleType):
    """Loads names on first use. `train_sft` and its like name functions here, not modules."""

    def __getattr__(self, name: str) -> Any:
        """Import the module that defines ``name``, and return it."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Importing the module `train_sft` must not hide the function `train_sft`."""
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        """All names, loaded or not."""
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
