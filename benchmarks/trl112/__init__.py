"""Our PPO beside that of TRL 1.12, the last release that had one; see `benchmarks/ppo.py`.

`baseline.py` and `turns.py` run in the baseline's own environment, so they import none of our
packages; the rest runs in ours.
"""
