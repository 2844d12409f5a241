import ctypes
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager

import pytest
import torch
from torch.testing import assert_close

from rlhf_core.config import PolicySettings, RewardSettings, SFTSettings
from rlhf_core.errors import MemoryExhaustedError
from rlhf_core.records import Comparison, Demonstration
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.train_sft import train_sft
from rlhf_core.training.memory import halving

SFT = SFTSettings(epochs=2, min_steps=1, batch_size=8)
REWARD = RewardSettings(members=1, epochs=1, min_steps=1, batch_size=8)
POLICY = PolicySettings(iterations=2, batch_size=8, minibatch_size=8)


@contextmanager
def room_for(base, tokens):
    """No pass that keeps states for a gradient finds memory for more tokens than these."""
    refused = []

    def weigh(_module, _args, kwargs):
        if torch.is_grad_enabled() and kwargs["input_ids"].numel() > tokens:
            refused.append(kwargs["input_ids"].numel())
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    hook = base.model.get_decoder().register_forward_pre_hook(weigh, with_kwargs=True)
    try:
        yield refused
    finally:
        hook.remove()


def sft(base, said, settings, **more):
    torch.manual_seed(0)
    base.attach("policy")
    demonstrations = [Demonstration(said(f"what is {n}"), "kind thanks") for n in range(16)]
    train_sft(base, demonstrations, adapter="policy", settings=settings, seed=1, **more)
    return base.weights("policy")


def reward(base, said, settings, **more):
    base.attach("policy")  # the members are then not the first adapters
    votes = [Comparison(said(f"what is {n}"), "kind thanks", "rude no", "a") for n in range(16)]
    model = train_reward(base, votes, settings=settings, name="policy", seed=1, **more)
    return [*base.weights("policy-m0"), model.members[0].head.weight]  # the bias cancels: noise


def policy(base, said, settings, **more):
    torch.manual_seed(0)
    base.attach("policy")
    prompts = [said("hello"), said("what is the colour of grass")]
    train_policy(
        base,
        prompts,
        lambda _, responses: torch.tensor([float(len(r)) for r in responses]),
        adapter="policy",
        reference=None,
        settings=settings,
        seed=1,
        **more,
    )
    return base.weights("policy")


STAGES = [(sft, SFT, 50), (reward, REWARD, 100), (policy, POLICY, 60)]


@pytest.mark.parametrize(("stage", "settings", "tokens"), STAGES)
@pytest.mark.parametrize("kept", [True, False])
def test_a_stage_that_runs_out_of_memory_trains_with_fewer_rows_and_ends_the_same(
    base, said, tmp_path, stage, settings, tokens, kept
):
    expected = [w.detach().clone() for w in stage(base, said, settings)]
    for name in base.adapters:
        base.drop(name)
    smaller = settings.model_copy(update={"checkpoint_seconds": 0})
    with room_for(base, tokens) as refused:
        found = stage(base, said, smaller, checkpoints=tmp_path if kept else None)
    assert refused
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("stage", "settings", "tokens"), STAGES)
def test_states_that_are_computed_again_change_no_stages_result(
    base, said, stage, settings, tokens
):
    ran: Counter[tuple[bool, bool]] = Counter()
    layer = base.model.get_decoder().layers[-1].mlp  # the reward model trains the upper ones
    results = []
    for recompute in (False, True):
        hook = layer.register_forward_pre_hook(
            lambda *_, recompute=recompute: ran.update([(recompute, torch.is_grad_enabled())])
        )
        changed = settings.model_copy(update={"gradient_checkpointing": recompute})
        results.append([w.detach().clone() for w in stage(base, said, changed)])
        hook.remove()
        for name in base.adapters:
            base.drop(name)
    assert ran[True, True] == 2 * ran[False, True] > 0  # once more for the gradients
    assert ran[True, False] == ran[False, False]  # generating and scoring are as before
    for one, other in zip(*results, strict=True):
        assert_close(one, other, atol=1e-5, rtol=0)
    assert not base.model.is_activation_checkpointing


def test_too_little_memory_for_one_row_is_an_error_even_with_halving(base, said):
    with room_for(base, 1) as refused, pytest.raises(MemoryExhaustedError, match="a single row"):
        sft(base, said, SFT)
    assert len(refused) == 4  # 8, 4, 2 and 1 row


def test_too_little_memory_for_a_rollout_names_what_it_needs_and_is_not_tried_again(base, said):
    def refuse(_module, _args, _kwargs):
        if not torch.is_grad_enabled():
            refused.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    refused: list[int] = []
    hook = base.model.get_decoder().register_forward_pre_hook(refuse, with_kwargs=True)
    with pytest.raises(MemoryExhaustedError, match=r"lower policy\.batch_size or reply\.tokens"):
        policy(base, said, POLICY)
    hook.remove()
    assert len(refused) == 1


def test_rows_are_halved_unless_the_settings_forbid_it():
    asked = []

    def train(settings):
        asked.append(settings.micro_batch_size)
        raise MemoryExhaustedError("there is too little memory", by_rows=True)

    with pytest.raises(MemoryExhaustedError):
        off = SFT.model_copy(update={"halve_micro_batch": False})
        halving(off, train, rows=8, weights=[])
    assert asked == [0]
    with pytest.raises(MemoryExhaustedError):
        on = SFT.model_copy(update={"micro_batch_size": 5})
        halving(on, train, rows=8, weights=[])
    assert asked[1:] == [5, 2, 1]
    with pytest.raises(MemoryExhaustedError):
        halving(on.model_copy(update={"micro_batch_size": 64}), train, rows=8, weights=[])
    assert asked[4:] == [64, 4, 2, 1]  # 64 rows of 8 are 8


GLIBC = pytest.mark.skipif(
    getattr(ctypes.CDLL(None), "malloc_trim", None) is None, reason="another C library"
)
HEAP = """
import sys, torch
from rlhf_core.training.memory import give_back, map_large_blocks

def resident():
    lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024

if sys.argv[1] == "map":
    map_large_blocks()
size, count = int(sys.argv[2]), int(sys.argv[3])
for _ in range(3):  # glibc learns from freed blocks how large those are that it should keep
    torch.ones(31 * 2**18).sum()
before = resident()
blocks = [(torch.ones(size // 4), torch.ones(25_000)) for _ in range(count)]
held = [small for _, small in blocks]  # above each large block, too large for the holes below
del blocks
print(resident() - before)
give_back()
print(resident() - before)
"""


@pytest.fixture
def kept_megabytes() -> Callable[..., list[float]]:
    """Megabytes that a process of its own keeps of freed blocks, before and after `give_back`."""

    def found(how: str, size: int, count: int) -> list[float]:
        words = [sys.executable, "-c", HEAP, how, str(size), str(count)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return [float(line) for line in done.stdout.split()]

    return found


@GLIBC
def test_a_large_block_goes_back_when_it_is_freed_even_below_one_that_is_held(kept_megabytes):
    size = 10 * 2**20
    assert kept_megabytes("map", size, 30)[0] < 100
    assert kept_megabytes("plain", size, 30)[0] > 200  # by itself glibc keeps them


@GLIBC
def test_small_blocks_go_back_when_a_stage_ends(kept_megabytes):
    before, after = kept_megabytes("map", 2**20, 300)
    assert before > 200
    assert after < 100
