"""The reward model on real people's votes: how well it predicts them, beside length and people.

    python -m benchmarks.human_votes --data DIR --model MODEL --json
    python -m benchmarks.human_votes --data DIR --sets pandalm --train 300 [--heads]

DIR holds the files as their owners publish them: `pandalm_testset_v1.json` (WeOpenML/PandaLM: 999
pairs, three people each, ties), `hh_harmless_base_test.jsonl.gz` (anthropics/hh-rlhf) and
`llmbar_*.json` (princeton-nlp/LLMBar: the better answer is known). A reward model is trained
on a part of one of the first two, with questions kept apart, and tested on the rest of it and on
all of LLMBar.

- *length only* always prefers the longer reply, or the shorter, whichever training votes prefer.
- *people* is how often one PandaLM annotator agrees with another who decided, too: nothing that
  predicts single votes can do much better.
- On LLMBar's adversarial pairs the worse answer looks better: it is longer or has a better tone.

Intervals are 95%, clustered by question.
"""

import argparse
import gzip
import json
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from feedback_store.datasets.foreign import hh
from rlhf_core.config import ReplySettings, RewardSettings
from rlhf_core.gate.intervals import clustered_interval
from rlhf_core.model.base_model import Base
from rlhf_core.model.facts import machine_facts, model_facts
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Label, Prompt
from rlhf_core.reward.heads import LinearHeads, fit_heads
from rlhf_core.reward.reward_data import prompt_key
from rlhf_core.reward.reward_model import RewardModel
from rlhf_core.train_reward import train_reward
from rlhf_core.training.profiles import fill, profile_for

Z95 = 1.96
LABELS: dict[int, Label] = {0: "tie", 1: "a", 2: "b"}
TESTED = 400  # pairs of a test; more would only narrow the interval
LLMBAR = ("natural", "adversarial_gptinst", "adversarial_neighbor")


@dataclass(frozen=True, slots=True)
class Item:
    """One pair of replies and what each person said about it."""

    prompt: Prompt
    first: str
    second: str
    labels: tuple[Label, ...]

    def comparisons(self, group: str) -> list[Comparison]:
        """Each person's vote; together they are one opinion."""
        tied = len(self.labels) > 1
        return [
            Comparison(self.prompt, self.first, self.second, label, group=group, could_tie=tied)
            for label in self.labels
        ]

    @property
    def majority(self) -> Label:
        """What most people said; without a majority, a tie."""
        label = statistics.multimode(self.labels)
        return label[0] if len(label) == 1 else "tie"


def pandalm(folder: Path) -> list[Item]:
    """PandaLM's test set: instruction and input, two replies, three annotators."""
    found = []
    for row in json.loads((folder / "pandalm_testset_v1.json").read_text()):
        asked = "\n\n".join(text for text in (row["instruction"], row["input"]) if text.strip())
        labels = tuple(LABELS[row[f"annotator{n}"]] for n in (1, 2, 3))
        prompt: Prompt = [{"role": "user", "content": asked}]
        replies = str(row["response1"]), str(row["response2"])  # one of them is `false`
        found.append(Item(prompt, *replies, labels))
    return found


def harmless(folder: Path) -> list[Item]:
    """HH's pairs whose transcripts part at the last reply; sides by lot, so that none is first."""
    rng, found = random.Random(0), []
    with gzip.open(folder / "hh_harmless_base_test.jsonl.gz", "rt") as lines:
        for line in lines:
            for judged in hh.read(json.loads(line)):
                replies = [reply.content for reply in getattr(judged, "replies", ())]
                if not replies:
                    continue  # skipped: it does not compare two replies to one prompt
                swapped = rng.random() < 0.5
                first, second = reversed(replies) if swapped else replies
                prompt = [dict(turn) for turn in judged.prompt]  # type: ignore[union-attr]
                found.append(Item(prompt, first, second, ("b" if swapped else "a",)))  # type: ignore[arg-type]
    return found


def llmbar(folder: Path, name: str) -> list[Item]:
    """LLMBar's pairs, with the known better answer."""
    rows = json.loads((folder / f"llmbar_{name}.json").read_text())
    return [
        Item(
            [{"role": "user", "content": row["input"]}],
            row["output_1"],
            row["output_2"],
            (LABELS[row["label"]],),
        )
        for row in rows
    ]


SETS = {"pandalm": pandalm, "harmless": harmless}


def parts(items: Sequence[Item], train: int, seed: int) -> tuple[list[Item], list[Item]]:
    """Training and test items; all items about one question are in one part."""
    keys = sorted({prompt_key(item.prompt) for item in items})
    random.Random(seed).shuffle(keys)
    order = {key: n for n, key in enumerate(keys)}
    ranked = sorted(items, key=lambda item: order[prompt_key(item.prompt)])
    last = order[prompt_key(ranked[min(train, len(ranked) - 1)].prompt)]
    cut = next(n for n, item in enumerate(ranked) if order[prompt_key(item.prompt)] >= last)
    return ranked[:cut], ranked[cut:]


def share(right: Sequence[float], items: Sequence[Item]) -> dict[str, float]:
    """A mean with its interval."""
    low, mean, high = clustered_interval(right, [prompt_key(i.prompt) for i in items], z=Z95)
    return {"mean": round(mean, 3), "low": round(low, 3), "high": round(high, 3)}


def predicted(margins: Sequence[float], items: Sequence[Item]) -> list[float]:
    """1 where the margin has the majority's sign, 0 where not."""
    return [
        float((margin > 0) == (item.majority == "a"))
        for margin, item in zip(margins, items, strict=True)
    ]


def people(items: Sequence[Item]) -> list[tuple[float, Item]]:
    """For each pair of annotators who both decided: whether they agree, and on what."""
    return [
        (float(a == b), item)
        for item in items
        for a, b in combinations(item.labels, 2)
        if "tie" not in (a, b)
    ]


def words(item: Item) -> float:
    """How much longer the first reply is."""
    return float(len(item.first.split()) - len(item.second.split()))


def study(base: Base, name: str, folder: Path, options: argparse.Namespace) -> Iterator[Any]:
    """Train on a part of one set and test: rows of (test, what predicts, interval)."""
    train, test = parts(fitting(base, SETS[name](folder)), options.train, options.seed)
    decided = [item for item in test if item.majority != "tie"][:TESTED]
    longer = sum((words(i) > 0) == (i.majority == "a") for i in train if i.majority != "tie")
    sign = 1.0 if longer * 2 >= sum(i.majority != "tie" for i in train) else -1.0
    started = time.monotonic()
    votes = [c for n, item in enumerate(train) for c in item.comparisons(f"{name}-{n}")]
    reward: LinearHeads | RewardModel
    if options.heads:
        reward = fit_heads(base, votes)
    else:
        reward = train_reward(base, votes, settings=options.settings, name=name, seed=options.seed)
    seconds = time.monotonic() - started
    tests = {name: decided}
    for part in LLMBAR:
        tests[f"llmbar_{part}"] = fitting(base, llmbar(folder, part))
    for where, items in tests.items():
        prompts = [item.prompt for item in items]
        scores = [
            reward.score(prompts, [getattr(item, side) for item in items])
            for side in ("first", "second")
        ]
        margins = (scores[0] - scores[1]).tolist()
        yield where, "reward_model", share(predicted(margins, items), items)
        by_length = [sign * words(item) for item in items]
        yield where, "length_only", share(predicted(by_length, items), items)
    if agreed := people(test):
        yield name, "people", share(*zip(*agreed, strict=True))
    yield name, "trained_on", {"items": len(train), "votes": len(votes)}
    yield name, "seconds", {"training": round(seconds, 1)}
    if isinstance(reward, RewardModel):
        reward.drop()


def fitting(base: Base, items: Sequence[Item]) -> list[Item]:
    """Those whose prompt fits the contract and whose replies differ within it."""
    return [
        item
        for item in items
        if base.chat.fit_prompt(item.prompt) is not None
        and base.chat.cut_reply(item.first) != base.chat.cut_reply(item.second)
    ]


def main() -> None:
    """Train, test, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the files")
    parser.add_argument("--model", default="starter", help="a model's directory")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--train", type=int, default=500, help="pairs to train on, of each set")
    parser.add_argument("--tokens", type=int, default=128, help="longest reply that is read")
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", action="store_true", help="linear heads, as the gate's")
    parser.add_argument("--set", default="{}", help="reward settings, as JSON")
    parser.add_argument("--json", action="store_true", help="accepted for symmetry")
    options = parser.parse_args()

    reply = ReplySettings(prompt_tokens=options.prompt_tokens, tokens=options.tokens)
    values: dict[str, Any] = {}
    quantization: Any = "nf4"
    if options.model != "starter":
        profile = profile_for("auto", model_facts(options.model), machine_facts())
        values, quantization = dict(profile.cycle["reward"]), profile.quantization
        torch.set_num_threads(profile.threads)
    options.settings = fill(RewardSettings(**json.loads(options.set)), values)
    base = load_base(options.model, quantization=quantization, reply=reply)
    ratios: dict[str, Any] = {}
    for name in options.sets.split(","):
        for where, what, interval in study(base, name, options.data, options):
            ratios[f"{name}_on_{where}/{what}" if where != name else f"{name}/{what}"] = interval
            print(json.dumps({"trained_on": name, "test": where, what: interval}), flush=True)
    print(
        json.dumps(
            {
                "name": "human_votes",
                "model": options.model,
                "ratios": {k: v | {"bar": None} for k, v in ratios.items()},
                "load": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
