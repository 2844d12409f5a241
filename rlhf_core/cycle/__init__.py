"""One cycle: from what people said since the last one to a better adapter, or reasons why not.

`run_cycle` in `run.py` reads top to bottom. This is the only part of the core that knows the store.
"""

from rlhf_core.cycle.run import help_cycle, run_cycle

__all__ = ["help_cycle", "run_cycle"]
