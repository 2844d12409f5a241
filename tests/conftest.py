"""What every test gets: no model hub, one thread, the same random numbers, patience."""

import os
import random
import sys

import hypothesis
import pytest

# Before any import of torch or huggingface_hub: both read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")

# A busy machine is no failure, and CI draws the same examples each time.
hypothesis.settings.register_profile("here", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("here")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same random state; torch only where the test loaded it."""
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
