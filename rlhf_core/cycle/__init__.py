"""One cycle: from what people said to a better adapter, or to the reasons against it.

Begin with `run_cycle` in `run.py`. This is the only part of the core that knows the store.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhf_core.cycle.run import help_cycle, run_cycle

__all__ = ["help_cycle", "run_cycle"]


def __getattr__(name: str) -> Any:
    """Load what trains when it is asked for: `forget` and `sweep` need `resume.py` alone."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.run"), name)
