"""What a policy learns per nat: both trainers against the same reward model, judged by gold.

For a seed, visitors compare replies of the base and one reward model is trained on their votes. It
is given to our trainer as an adapter and to TRL 1.12's as a merged model with the same scores. Both
train with the same settings; every few iterations the adapter is kept, and all of them are measured
alike: mean gold reward of sampled replies to held-out requests, and KL to the base in nats.

The gain at equal KL is read off the line through a side's measurements, at the largest KL that both
have reached.
"""

import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from benchmarks.trl112.turns import Side
from rlhf_core.config import RewardSettings
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Prompt
from rlhf_core.reward.reward_model import RewardModel
from rlhf_core.train_reward import train_reward
from rlhf_core.worlds.starter.judge import judge
from rlhf_core.worlds.starter.measure import held_out_requests
from rlhf_core.worlds.starter.raters import visitors

COMPARISONS, REQUESTS, SAVE_EVERY = 400, 1600, 5
LEARNING_BARS = {"gain_at_equal_kl": 0.95, "mean_gain_up_to_equal_kl": None}
Point = tuple[float, float]  # KL to the base in nats per response, mean gold reward


def learn(python: str, job: dict[str, Any]) -> dict[str, Any]:
    """Train both sides and measure what they kept."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = load_base(job["model"], quantization="none", device="cpu")
        torch.set_num_threads(1)
        merged, bias = _reward_model(base, folder, job["seed"])
        job |= {"save_every": SAVE_EVERY}
        ours = job | {"reward": str(folder / "reward"), "save": str(folder / "ours")}
        theirs = job | {
            "reward": {"path": str(merged), "bias": bias},
            "save": str(folder / "theirs"),
        }
        with (
            Side(sys.executable, "benchmarks.trl112.ours", ours) as our_side,
            Side(python, "benchmarks.trl112.baseline", theirs) as their_side,
        ):
            _run([our_side, their_side], job["policy"]["iterations"])
        start = measure(base, None, job)
        curves = {who: _curve(base, folder / who, job) for who in ("ours", "theirs")}
    return summarise(start, curves) | {"seed": job["seed"]}


def _run(sides: Sequence[Side], iterations: int) -> None:
    """Both at once: time does not count here."""
    for side in sides:
        side.answer()
    for _ in range(iterations):
        for side in sides:
            side.go()
        for side in sides:
            side.answer()


def summarise(start: Point, curves: dict[str, list[Point]]) -> dict[str, Any]:
    """Ratios of gains, ours over theirs, and all that was measured."""
    most = min(max(kl for kl, _ in points) for points in curves.values())
    grid = np.linspace(0, most, 101)[1:]
    gains = {}
    for who, points in curves.items():
        kl, gold = zip(*sorted([(0.0, start[1]), *points]), strict=True)
        gains[who] = np.interp(grid, kl, gold) - start[1]
    return {
        "gain_at_equal_kl": round(float(gains["ours"][-1] / gains["theirs"][-1]), 3),
        "mean_gain_up_to_equal_kl": round(float(gains["ours"].mean() / gains["theirs"].mean()), 3),
        "equal_kl": round(most, 2),
        "gold_at_start": round(start[1], 3),
        "curves": {
            who: [[round(v, 3) for v in point] for point in points]
            for who, points in curves.items()
        },
    }


def measure(base: Base, adapter: str | None, job: dict[str, Any]) -> Point:
    """KL to the base and gold reward, of one reply to each of the same held-out requests."""
    requests = held_out_requests(REQUESTS, job["seed"])
    prompts: list[Prompt] = [[{"role": "user", "content": r.text}] for r in requests]
    replies = base.respond(prompts, adapter=adapter, seed=job["seed"])
    golds = [
        judge(request, reply.text, finished=reply.finished).gold
        for request, reply in zip(requests, replies, strict=True)
    ]
    ids = [reply.token_ids for reply in replies]
    own, bare = (base.logprobs(prompts, ids, adapter=name) for name in (adapter, None))
    kls = [(a - b).sum().item() for a, b in zip(own, bare, strict=True)]
    return float(np.mean(kls)), float(np.mean(golds))


def _curve(base: Base, folder: Path, job: dict[str, Any]) -> list[Point]:
    points = []
    for path in sorted(folder.iterdir()):
        base.attach_weights("measured", path)
        points.append(measure(base, "measured", job))
        base.drop("measured")
    return points


def _reward_model(base: Base, folder: Path, seed: int) -> tuple[Path, float]:
    """Train it and leave it in both forms: our adapter, and a merged model with its bias."""
    settings = RewardSettings(members=1)
    comparisons = _comparisons(base, seed)
    reward = train_reward(base, comparisons, settings=settings, name="reward", seed=seed)
    reward.save(folder / "staging")
    publish_adapter(folder / "staging", folder / "reward", kind="reward", base=base.fingerprint)
    merged, bias = folder / "merged", _merge(reward, folder)
    _check_alike(reward, merged, bias, comparisons[:32])
    reward.drop()
    return merged, bias


def _merge(reward: RewardModel, folder: Path) -> float:
    """Write a sequence classifier whose scores, plus the bias returned, are the member's."""
    member, path = reward.members[0], reward.base.model.config._name_or_path
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(plain, str(folder / "reward" / "m0")).merge_and_unload()
    classifier = AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=1, dtype=torch.float32
    )
    classifier.model.load_state_dict(tuned.model.state_dict())
    classifier.score.weight.data.copy_(member.head.weight.data / member.sd)
    classifier.save_pretrained(folder / "merged")
    return (member.head.bias.item() - member.mean) / member.sd


def _check_alike(
    reward: RewardModel, merged: Path, bias: float, comparisons: Sequence[Comparison]
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(merged, dtype=torch.float32)
    expected = reward.score([c.prompt for c in comparisons], [c.response_a for c in comparisons])
    for comparison, score in zip(comparisons, expected, strict=True):
        ids, _ = reward.base.chat.encode_pair(comparison.prompt, comparison.response_a)
        with torch.no_grad():
            hidden = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
            found = model.score(hidden).item() + bias
        assert abs(found - score.item()) < 1e-3, (found, score.item())


def _comparisons(base: Base, seed: int) -> list[Comparison]:
    """Votes of simulated visitors on pairs of the base's replies to what they asked."""
    asking = list(itertools.islice(itertools.cycle(visitors(40, seed)), COMPARISONS))
    asked = [visitor.ask() for visitor in asking]
    prompts: list[Prompt] = [[{"role": "user", "content": text}] for text in asked]
    first, second = (base.respond(prompts, adapter=None, seed=2 * seed + k) for k in (0, 1))
    found = []
    for visitor, text, prompt, a, b in zip(asking, asked, prompts, first, second, strict=True):
        choice = visitor.choose(text, a.text, b.text)
        label = choice if choice in ("a", "b") else "tie"
        found.append(Comparison(prompt, a.text, b.text, label))
    return found
