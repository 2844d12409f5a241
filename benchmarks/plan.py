"""What `plan` says of a cycle beside what the cycle takes: hours, and the most memory.

    python -m benchmarks.plan --json                                     # the starter
    python -m benchmarks.plan --model DIR --config FILE                  # any model
    python -m benchmarks.plan --model DIR --width 1536 --layers 24       # random weights, this size

The votes are written straight into the store. On each of the built-in requests one reply is made of
friendly words and the other of unfriendly ones, and the first is better. So the reward models of
any model learn enough for the cycle to go on to PPO and the gate, which is all that counts here;
whether it promotes does not. The plan takes the length of replies from the votes, so give as many
words as the model's own replies have: random weights never end a reply.
"""

import argparse
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.loop import run_command
from feedback_store import BASE_ADAPTER, CandidateReply, FeedbackStore
from rlhf_core.worlds.checkable.requests import built_in_requests

BETTER = "certainly here is a short clear friendly answer that you can use today"
WORSE = "no idea whatever ask somebody else about it this was boring plus too long"
RATERS = 20
HEAD = 128  # numbers in an attention head
BARS = (0.75, 1.25)  # planned over measured


def main() -> None:
    """Fill a store, plan, run, and print both."""
    cli = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    cli.add_argument("--model", default="starter")
    cli.add_argument("--config", type=Path, help="settings of the cycle (TOML)")
    cli.add_argument("--votes", type=int, default=200, help="at most 232, one a request")
    cli.add_argument(
        "--words",
        type=int,
        default=40,
        help="of each reply that is voted on: as many as the model uses",
    )
    cli.add_argument("--width", type=int, help="random weights: a multiple of 128")
    cli.add_argument("--layers", type=int, help="random weights: blocks")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = cli.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        if options.width and options.layers:
            options.model = write_random_model(Path(scratch) / "model", options)
        fill(data, votes=options.votes, words=options.words)
        words = ["--data", str(data), "--model", options.model, "--json"]
        words += ["--config", str(options.config)] if options.config else []
        planned, _ = run_command("plan", *words)
        cycle, seconds = run_command("cycle", *words)
    found = compared(planned, cycle, seconds)
    print(json.dumps(found, indent=None if options.json else 1))


def write_random_model(folder: Path, options: argparse.Namespace) -> str:
    """A model of the same kind and tokenizer, in the shape of Llama 3, with random weights."""
    config: Any = AutoConfig.from_pretrained(options.model)
    config.hidden_size, config.num_hidden_layers = options.width, options.layers
    config.intermediate_size = options.width * 7 // 2
    config.head_dim = HEAD
    config.num_attention_heads = options.width // HEAD
    config.num_key_value_heads = max(1, options.width // HEAD // 4)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        network: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.bfloat16
        )
    network.save_pretrained(folder)
    del network
    torch.cuda.empty_cache()  # the plan counts what is free; does nothing without a GPU
    AutoTokenizer.from_pretrained(options.model).save_pretrained(folder)
    return str(folder)


def fill(data: Path, *, votes: int, words: int) -> None:
    """A store with one choice for each request."""
    rng = random.Random(0)
    data.mkdir()
    with FeedbackStore(data / "feedback.db") as store:
        raters = [store.add_rater(f"rater-{n}", kind="simulated").id for n in range(RATERS)]
        for number, prompt in enumerate(built_in_requests()[:votes]):
            rater = raters[number % RATERS]
            asked = store.add_message(store.add_conversation(rater).id, "user", prompt.text)
            replies = [
                CandidateReply(" ".join(rng.choices(own.split(), k=words)), adapter=BASE_ADAPTER)
                for own in (BETTER, WORSE)
            ]
            candidates, _ = store.add_candidates(asked.id, replies, rater_id=rater)
            store.add_choice(candidates, rater, "a", idempotency_key=f"vote-{number}")


def compared(planned: dict[str, Any], cycle: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Planned and measured figures; ratios only of a cycle that came to the gate."""
    metrics, ratios = cycle["metrics"], {}
    if "seconds/policy" in metrics:
        ratios = {
            "hours": round(planned["hours"] * 3600 / seconds, 3),
            "memory": round(planned["memory_gb"] / metrics["memory_gb"], 3),
            "bars": BARS,
        }
    return {
        "name": "plan",
        "parameters": planned["model"]["parameters"],
        "state": cycle["state"],
        "reasons": cycle["reasons"],
        "hours": {"planned": planned["hours"], "measured": round(seconds / 3600, 4)},
        "memory_gb": {"planned": planned["memory_gb"], "measured": metrics.get("memory_gb")},
        "ratios": ratios,
        "stages_s": {
            stage: {"planned": round(s, 1), "measured": metrics.get(f"seconds/{stage}")}
            for stage, s in planned["seconds"].items()
        },
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
