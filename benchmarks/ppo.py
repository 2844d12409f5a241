"""Our PPO beside TRL 1.12's, the last release that had a `PPOTrainer`: time, memory, learning.

    python3 -m venv .venv/trl112
    .venv/trl112/bin/python -m pip install -r benchmarks/trl112/requirements.txt

    python -m benchmarks.ppo --json              # seconds and memory of an iteration, by turns
    python -m benchmarks.ppo --learning --json   # gold reward gained at equal KL, 3 seeds
    python -m benchmarks.ppo --parity --json     # the same rollout: rewards, advantages, losses

Both sides get the same base model, LoRA, prompts, episodes, epochs, minibatches and settings, one
thread each, and a process of their own that is kept; they take turns, iteration by iteration. No
response may end before its last token, so that the work is the same. The baseline's policy is a
LoRA adapter, too, with the base as its reference; its value and reward models are models of their
own, and the value model is trained in full: that is how TRL 1.12 does it.

Memory is the peak of the resident set beyond what it was after the imports. It holds code of the
libraries that is loaded from their files only when it is first used; `private` is the same without
files. On a GPU both are the most that PyTorch held there, and both sides compute in bfloat16.
`cpu_seconds` is the processor's time, which suffers less from other jobs.
"""

import argparse
import json
import os
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.trl112.learning import LEARNING_BARS, learn
from benchmarks.trl112.parity import compare_rollouts, parity_bar
from benchmarks.trl112.turns import Side
from rlhf_core.config import LoraSettings, PolicySettings, ReplySettings
from rlhf_core.model.chat_format import ChatFormat
from rlhf_core.model.sources import STARTER_MODEL
from rlhf_core.records import Prompt
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.world import sample_request

PYTHON = Path(".venv/trl112/bin/python")
MISSING = (
    "there is no baseline at {}; make it: python3 -m venv .venv/trl112 && "
    ".venv/trl112/bin/python -m pip install -r benchmarks/trl112/requirements.txt"
)
BAR = 0.6
SHAPES: dict[str, dict[str, int]] = {  # many small steps, and the product's own settings
    "small": {"batch_size": 16, "minibatch_size": 8, "epochs": 4},
    "product": {},
}
ROWS = {  # shape, quantization
    "small": ("small", "none"),
    "product": ("product", "none"),
    "nf4": ("small", "nf4"),
}
WARM_UP = 2  # pairs that do not count: first calls set things up


def make_job(seed: int, shape: dict[str, int], **more: Any) -> dict[str, Any]:
    """What both workers are told."""
    settings = PolicySettings(**shape, **more.pop("policy", {}))
    prompts, model = more.pop("prompts"), more.pop("model", str(STARTER_MODEL))
    reply = ReplySettings(tokens=more.pop("tokens", 48))
    chat = ChatFormat(AutoTokenizer.from_pretrained(model), reply)
    return {
        "model": model,
        "device": "cpu",
        "quantization": "none",
        "policy": settings.model_dump(),
        "value_learning_rate": 3e-4,
        "lora": LoraSettings().model_dump(),
        "prompts": prompts,
        "prompt_ids": [chat.encode_prompt(prompt) for prompt in prompts],
        "reply": reply.model_dump(),
        "fixed_length": False,
        "reward": None,
        "save": None,
        "seed": seed,
    } | more


def requests(count: int, seed: int) -> list[Prompt]:
    """Different things that visitors ask, as conversations of one message."""
    rng, pool = random.Random(f"ppo/{seed}"), facts("train")
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[sample_request(rng, pool).text] = None
    return [[{"role": "user", "content": text}] for text in texts]


def by_turns(
    python: str, shape: str, quantization: str, pairs: int, **where: str
) -> list[dict[str, Any]]:
    """Iterations of both sides, in pairs; who begins alternates."""
    sizes = SHAPES[shape]
    episodes = PolicySettings(**sizes).batch_size
    # half as many prompts as episodes, each twice, as our trainer samples them
    prompts = requests(episodes // 2, seed=0)
    job = make_job(
        0,
        sizes,
        prompts=prompts,
        tokens=32 if shape == "small" else 48,
        quantization=quantization,
        fixed_length=True,
        **where,
        policy={"iterations": pairs + WARM_UP, "kl_budget": 1e9, "learning_rate": 1e-5},
    )
    theirs = job | {"prompt_ids": job["prompt_ids"] * 2}
    found = []
    with (
        Side(sys.executable, "benchmarks.trl112.ours", job) as our_side,
        Side(python, "benchmarks.trl112.baseline", theirs) as their_side,
    ):
        sides = {"ours": our_side, "theirs": their_side}
        for side in sides.values():
            side.answer()
        for number in range(pairs + WARM_UP):
            order = list(sides) if number % 2 else list(reversed(sides))
            pair = {name: sides[name].turn() for name in order}
            _require_full_length(pair, job)
            if number >= WARM_UP:
                found.append(pair)
                print(json.dumps({"row": (shape, quantization)} | _brief(pair)), flush=True)
    return found


def _require_full_length(pair: dict[str, Any], job: dict[str, Any]) -> None:
    """The work is the same only if no response ended by itself."""
    if pair["ours"]["val/length"] != job["reply"]["tokens"] or pair["theirs"]["val/num_eos_tokens"]:
        raise SystemExit("a response ended before its last token; the sides did different work")


def _brief(pair: dict[str, Any]) -> dict[str, Any]:
    keys = ("seconds", "cpu_seconds", "memory_mb", "private_mb")
    brief = {who: {k: round(facts[k], 2) for k in keys} for who, facts in pair.items()}
    parts = {k: round(pair["ours"][f"{k}_s"], 2) for k in ("generate", "score", "logprobs")}
    return brief | {"our_parts": parts}


def timings(python: str, rows: list[str], pairs: int, **where: str) -> dict[str, Any]:
    """Ratios of time, processor time and memory, with their bars."""
    ratios: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    for row in rows:
        suffix = "" if row == "small" else f"_{row}"
        found = by_turns(python, *ROWS[row], pairs, **where)
        bars = {"seconds": BAR, "cpu_seconds": None, "memory_mb": BAR, "private_mb": None}
        for key, bar in bars.items():
            values = [pair["ours"][key] / pair["theirs"][key] for pair in found]
            ratios[key.removesuffix("_mb") + suffix] = spread(values) | {"bar": bar}
            for who in ("ours", "theirs"):
                figures[f"{who}_{key}{suffix}"] = spread([pair[who][key] for pair in found])
    return {"ratios": ratios, "figures": figures}


def learning(python: str, options: argparse.Namespace) -> dict[str, Any]:
    """Gold reward gained at equal KL, ours over theirs."""
    found = []
    for seed in options.seeds:
        job = make_job(
            seed,
            {},
            prompts=requests(300, seed),
            policy={"iterations": options.iterations},
            value_learning_rate=options.value_rate,
        )
        found.append(learn(python, job))
        print(json.dumps(found[-1]), flush=True)
    ratios = {
        name: spread([outcome[name] for outcome in found]) | {"bar": bar}
        for name, bar in LEARNING_BARS.items()
    }
    return {"ratios": ratios}


def parity(python: str) -> dict[str, Any]:
    """Largest differences on rollouts of full length, and on such as end by themselves."""
    ratios = {}
    for fixed_length in (True, False):
        job = make_job(
            0,
            {"batch_size": 32, "minibatch_size": 32, "epochs": 2},
            prompts=requests(32, seed=0),
            tokens=24,
            fixed_length=fixed_length,
            policy={"iterations": 3, "learning_rate": 5e-3, "warmup_iterations": 0},
        )
        for name, difference in compare_rollouts(python, job).items():
            print(json.dumps({name: difference}), flush=True)
            ratios[name] = spread([difference], digits=9) | {"bar": parity_bar(name)}
    return {"ratios": ratios}


def spread(values: list[float], digits: int = 3) -> dict[str, float | None]:
    """Median, smallest and largest."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def main() -> None:
    """Measure and print."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--baseline", type=Path, default=PYTHON, help=f"its Python; default {PYTHON}")
    what = cli.add_mutually_exclusive_group()
    what.add_argument("--learning", action="store_true", help="gold reward instead of seconds")
    what.add_argument("--parity", action="store_true", help="numbers instead of seconds")
    cli.add_argument("--pairs", type=int, default=7, help="of iterations, for each row")
    cli.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="for the seconds")
    cli.add_argument("--model", default=str(STARTER_MODEL), help="a directory, for the seconds")
    cli.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="with --learning")
    cli.add_argument("--iterations", type=int, default=30, help="with --learning")
    cli.add_argument("--value-rate", type=float, default=3e-4, help="of the baseline's value model")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    if not options.baseline.exists():
        print(MISSING.format(options.baseline), file=sys.stderr)
        raise SystemExit(2)
    python, name = str(options.baseline.absolute()), "ppo"
    if options.learning:
        name, result = "ppo_learning", learning(python, options)
    elif options.parity:
        name, result = "ppo_parity", parity(python)
    else:
        where = {"device": options.device, "model": options.model}
        result = timings(python, options.rows, options.pairs, **where)
    if options.json:
        print(json.dumps({"name": name} | result | {"load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
