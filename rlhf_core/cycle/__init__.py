"""One cycle: from what people said to a better adapter, or to the reasons against it.

Begin with `run_cycle` in `run.py`. This is the only part of the core that knows the store.
"""

from rlhf_core.cycle.run import help_cycle, run_cycle

__all__ = ["help_cycle", "run_cycle"]
