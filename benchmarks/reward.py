"""The reward model on the starter's simulated visitors: how well, and how surely, it tells votes.

    python -m benchmarks.reward --json                # 600 choices by 30 visitors, 5 seeds
    python -m benchmarks.reward --rankings            # rankings of 4: whole against shuffled pairs
    python -m benchmarks.reward --signals             # thumbs only, pairs only, both
    python -m benchmarks.reward --signals --policy    # the same through PPO, by gold win rate

Ten of forty visitors are held out, and a quarter of the questions; accuracy is on single votes
about held-out questions, by the visitors who were trained on and by those who were not. The ceiling
is what the visitors' own agreement allows a perfect model on single votes. The calibration error is
of each seed, and in the summary over the votes of all seeds together, where one seed's errors can
cancel another's: read both.
"""

import argparse
import itertools
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from feedback_store.splits import is_held_out_question
from rlhf_core.config import PolicySettings, RewardSettings
from rlhf_core.gate.intervals import clustered_interval
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Label, Prompt, Unpaired
from rlhf_core.reward.calibration import expected_calibration_error
from rlhf_core.reward.reward_model import RewardModel
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.worlds.starter.judge import judge
from rlhf_core.worlds.starter.measure import compare
from rlhf_core.worlds.starter.raters import Visitor, visitors

VISITORS, HELD_OUT_EVERY = 40, 4
TEST_PROMPTS, TEST_REPLIES = 120, 4
RANKED = 4
Z95 = 1.96
BARS = {"accuracy": 0.68, "drop": 0.04, "ece": 0.05}


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing that a visitor asked, and sampled replies of the base."""

    visitor: Visitor
    text: str
    replies: tuple[str, ...]

    @property
    def prompt(self) -> Prompt:
        """As training takes it."""
        return [{"role": "user", "content": self.text}]


@dataclass(frozen=True, slots=True)
class TestPair:
    """Two different replies to a held-out question, and which is better by the gold reward."""

    asked: Asked
    a: str
    b: str

    @property
    def gold(self) -> float:
        """How much better A is."""
        request = self.asked.visitor.asked[self.asked.text]
        return judge(request, self.a).gold - judge(request, self.b).gold


class World:
    """Visitors of one seed, on both sides, and the replies that the base gives them."""

    def __init__(self, base: Base, seed: int) -> None:
        self.base, self.seed, self.rng = base, seed, random.Random(seed)
        self.visitors = visitors(VISITORS, seed)
        self.held_out = self.visitors[::HELD_OUT_EVERY]
        self.trained = [v for v in self.visitors if v not in self.held_out]
        self._draws = itertools.count(1_000 * seed)

    def ask(self, n: int, k: int, *, held_out: bool = False) -> list[Asked]:
        """What visitors ask, with `k` replies to each; training and test share no question."""
        asking = itertools.cycle(self.trained)
        found: list[tuple[Visitor, str]] = []
        while len(found) < n:
            visitor = next(asking)
            text = visitor.ask()
            if is_held_out_question(text) == held_out:
                found.append((visitor, text))
        prompts: list[Prompt] = [[{"role": "user", "content": text}] for _, text in found]
        draws = [self.base.respond(prompts, adapter=None, seed=next(self._draws)) for _ in range(k)]
        replies = zip(*([r.text for r in draw] for draw in draws), strict=True)
        return [Asked(v, t, tuple(r)) for (v, t), r in zip(found, replies, strict=True)]

    def test_pairs(self) -> list[TestPair]:
        """All different pairs of replies to held-out questions, which any visitor may judge."""
        found = []
        for asked in self.ask(TEST_PROMPTS, TEST_REPLIES, held_out=True):
            for visitor in self.visitors:
                visitor.asked[asked.text] = asked.visitor.asked[asked.text]
            different = sorted(set(asked.replies))
            self.rng.shuffle(different)
            found += [TestPair(asked, a, b) for a, b in itertools.combinations(different, 2)]
        return found


def choose(asked: Asked) -> Comparison | None:
    """The visitor's side-by-side choice, if the replies differ."""
    a, b = asked.replies[:2]
    if a == b:
        return None
    choice = asked.visitor.choose(asked.text, a, b)
    return Comparison(asked.prompt, a, b, choice if choice in ("a", "b") else "tie")


def rank(asked: Asked, group: str) -> list[Comparison]:
    """All pairs of the visitor's ranking."""
    order = asked.visitor.rank(asked.text, asked.replies)
    place = {reply: number for number, replies in enumerate(order) for reply in replies}
    labels: dict[bool, Label] = {True: "a", False: "b"}
    return [
        Comparison(
            asked.prompt,
            a,
            b,
            "tie" if place[a] == place[b] else labels[place[a] < place[b]],
            group=group,
        )
        for a, b in itertools.combinations(dict.fromkeys(asked.replies), 2)
    ]


@dataclass
class Signals:
    """What a number of events came to."""

    comparisons: list[Comparison]
    thumbs: list[Unpaired]
    events: int = 0

    def add_thumbs(self, asked: Asked, name: str) -> None:
        """The visitor's thumbs on two replies: a pair if they are opposite, else each alone."""
        given = {
            reply: thumb
            for reply in dict.fromkeys(asked.replies[:2])
            if (thumb := asked.visitor.thumb(asked.text, reply)) is not None
        }
        self.events += len(given)
        if set(given.values()) == {"up", "down"}:
            (a, b), label = given, "a" if next(iter(given.values())) == "up" else "b"
            self.comparisons.append(
                Comparison(asked.prompt, a, b, label, could_tie=False)  # type: ignore[arg-type]
            )
        else:
            self.thumbs += [
                Unpaired(asked.prompt, reply, thumb == "up", name) for reply, thumb in given.items()
            ]

    def add_choice(self, asked: Asked) -> None:
        """The visitor's choice."""
        comparison = choose(asked)
        if comparison is not None:
            self.comparisons.append(comparison)
            self.events += 1


def signals(world: World, events: int) -> dict[str, Signals]:
    """The same number of events as thumbs only, as choices only, and half and half."""
    asked = world.ask(int(events * 1.6), 2)
    names = {id(v): str(i) for i, v in enumerate(world.visitors)}
    found = {kind: Signals([], []) for kind in ("thumbs", "pairs", "both")}
    for number, one in enumerate(asked):
        for kind, had in found.items():
            if had.events >= events:
                continue
            if kind == "pairs" or (kind == "both" and number % 2):
                had.add_choice(one)
            else:
                had.add_thumbs(one, names[id(one.visitor)])
    return found


def stated(model: RewardModel, pairs: Sequence[TestPair]) -> list[float]:
    """The probability that A is preferred, by the model."""
    prompts = [p.asked.prompt for p in pairs]
    found = model.preference(prompts, [p.a for p in pairs], [p.b for p in pairs])
    return [float(p) for p in found]


def gold_accuracy(model: RewardModel, pairs: Sequence[TestPair]) -> tuple[float, float, float]:
    """Low, mean and high share of pairs of different gold reward that the model orders so."""
    decided = [
        (p, s) for p, s in zip(pairs, stated(model, pairs), strict=True) if abs(p.gold) > 1e-9
    ]
    right = [float((s > 0.5) == (p.gold > 0)) for p, s in decided]
    return clustered_interval(right, [p.asked.text for p, _ in decided], z=Z95)


def votes_on(
    pairs: Sequence[TestPair], probabilities: Sequence[float], by: Sequence[Visitor]
) -> dict[str, Any]:
    """Every visitor's vote on every pair against what the model says; agreement; the ceiling."""
    right: list[float] = []
    clusters: list[str] = []
    outcomes: list[tuple[float, float]] = []
    agreed = 0.0
    shared = 0
    for pair, p in zip(pairs, probabilities, strict=True):
        labels = [v.choose(pair.asked.text, pair.a, pair.b) for v in by]
        first, second = labels.count("a"), labels.count("b")
        right += [float((p > 0.5) == (x == "a")) for x in labels if x in ("a", "b")]
        clusters += [pair.asked.text] * (first + second)
        outcomes += [(p, float(x == "a")) for x in labels if x in ("a", "b")]
        n = first + second
        if n > 1:  # a pair of visitors for each shared pair of replies, on average
            agreed += (first * (first - 1) + second * (second - 1)) / (n * (n - 1)) * n
            shared += n
    low, mean, high = clustered_interval(right, clusters, z=Z95)
    agreement = agreed / shared
    return {
        "accuracy": mean,
        "low": low,
        "high": high,
        "agreement": agreement,
        "ceiling": 0.5 + 0.5 * math.sqrt(max(0.0, 2 * agreement - 1)),
        "outcomes": outcomes,
    }


def run_votes(base: Base, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One ensemble on single choices, with the product's own settings."""
    world = World(base, seed)
    asked = world.ask(options.events, 2)
    pairs = world.test_pairs()
    comparisons = [c for one in asked if (c := choose(one)) is not None]
    started = time.process_time()
    model = train_reward(base, comparisons, settings=options.settings, name="reward", seed=seed)
    seconds = time.process_time() - started
    probabilities = stated(model, pairs)
    trained = votes_on(pairs, probabilities, world.trained)
    held_out = votes_on(pairs, probabilities, world.held_out)
    result = {
        "seed": seed,
        "comparisons": len(comparisons),
        "pairs": len(pairs),
        "accuracy": trained["accuracy"],
        "interval": [trained["low"], trained["high"]],
        "held_out_raters": held_out["accuracy"],
        "drop": trained["accuracy"] - held_out["accuracy"],
        "agreement": trained["agreement"],
        "ceiling": trained["ceiling"],
        "gold": gold_accuracy(model, pairs),
        "temperature": model.temperature,
        "ece": _ece(trained["outcomes"]),
        "cpu_s": seconds,
        "outcomes": trained["outcomes"],
    }
    model.drop()
    return result


def _ece(outcomes: Sequence[tuple[float, float]]) -> float:
    stated, happened = zip(*outcomes, strict=True)
    return expected_calibration_error(torch.tensor(stated), torch.tensor(happened))


def run_rankings(base: Base, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Rankings as whole opinions, and the same pairs shuffled, for one pass and for the usual."""
    world = World(base, seed)
    rankings = [rank(a, str(i)) for i, a in enumerate(world.ask(options.events // 4, RANKED))]
    pairs = world.test_pairs()
    whole = [c for ranking in rankings for c in ranking]
    shuffled = [replace(c, group=None) for c in whole]
    result: dict[str, Any] = {"seed": seed, "rankings": len(rankings), "pairs": len(whole)}
    usual = options.settings.epochs
    arms = [(kind, epochs) for epochs in (1, usual) for kind in ("whole", "shuffled")]
    for kind, epochs in [*arms, ("whole", 2 * usual)]:  # the last takes as long as the one before
        size = 8 if kind == "whole" else 8 * len(whole) // len(rankings)  # as many steps
        plain = {"members": 1, "corrupted_share": 0.0, "epochs": epochs, "min_steps": 1}
        settings = options.settings.model_copy(update=plain | {"batch_size": size})
        started = time.process_time()
        data = whole if kind == "whole" else shuffled
        model = train_reward(base, data, settings=settings, name="reward", seed=seed)
        result[f"{kind}/{epochs}"] = {
            "accuracy": votes_on(pairs, stated(model, pairs), world.trained)["accuracy"],
            "gold": gold_accuracy(model, pairs)[1],
            "cpu_s": time.process_time() - started,
        }
        model.drop()
    return result


def run_signals(base: Base, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Thumbs only, pairs only and both, at an equal number of events."""
    world = World(base, seed)
    found = signals(world, options.events)
    pairs = world.test_pairs()
    result: dict[str, Any] = {"seed": seed}
    for kind, had in found.items():
        model = train_reward(
            base,
            had.comparisons,
            settings=options.settings,
            name=kind,
            seed=seed,
            unpaired=had.thumbs,
        )
        low, mean, high = gold_accuracy(model, pairs)
        result[kind] = {
            "events": had.events,
            "comparisons": len(had.comparisons),
            "unpaired": len(had.thumbs),
            "gold": mean,
            "interval": [low, high],
        }
        if options.policy:
            result[kind] |= _through_ppo(base, model, had, seed)
        model.drop()
    return result


def _through_ppo(base: Base, model: RewardModel, had: Signals, seed: int) -> dict[str, Any]:
    """Gold win rate over the base after PPO with the product's own settings, without SFT."""
    judged: list[Comparison | Unpaired] = [*had.comparisons, *had.thumbs]
    prompts = {row.prompt[0]["content"]: row.prompt for row in judged}
    base.attach("policy", trainable=True, seed=seed)
    train_policy(
        base,
        list(prompts.values()),
        model.score,
        adapter="policy",
        reference=None,
        settings=PolicySettings(),
        seed=seed,
    )
    found = compare(base, candidate="policy", served=None, n=600, seed=seed)
    base.drop("policy")
    return {"win_rate": found.win_rate, "win_interval": [found.low, found.high]}


def summary(options: argparse.Namespace, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians beside their bars."""
    found: dict[str, Any] = {"name": "reward", "load": os.getloadavg()[0]}
    if options.mode != "votes":
        return found | {"seeds": [o["seed"] for o in outcomes]}
    every = [outcome for o in outcomes for outcome in o["outcomes"]]
    medians = {
        name: statistics.median(o[name] for o in outcomes)
        for name in ("accuracy", "held_out_raters", "drop", "ceiling", "agreement", "cpu_s")
    }
    values = medians | {"ece": _ece(every), "ece_worst_seed": max(o["ece"] for o in outcomes)}
    met = {
        "accuracy": values["accuracy"] >= BARS["accuracy"],
        "drop": values["drop"] <= BARS["drop"],
        "ece": values["ece"] <= BARS["ece"],
    }
    return found | {"values": _rounded(values), "bars": BARS, "met": met}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items() if k != "outcomes"}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def main() -> None:
    """Run the seeds and print what came of them."""
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    cli.add_argument("--events", type=int, default=600)
    cli.add_argument("--rankings", dest="mode", action="store_const", const="rankings")
    cli.add_argument("--signals", dest="mode", action="store_const", const="signals")
    cli.add_argument("--policy", action="store_true", help="with --signals: through PPO, too")
    cli.add_argument("--set", type=json.loads, default={}, help="reward settings, as JSON")
    cli.add_argument("--json", action="store_true", help="end with one line of JSON")
    cli.set_defaults(mode="votes")
    options = cli.parse_args()
    options.settings = RewardSettings(**options.set)
    torch.set_num_threads(1)
    runs: dict[str, Callable[[Base, int, argparse.Namespace], dict[str, Any]]] = {
        "votes": run_votes,
        "rankings": run_rankings,
        "signals": run_signals,
    }
    base = load_base("starter")
    outcomes = []
    for seed in options.seeds:
        outcomes.append(runs[options.mode](base, seed, options))
        print(json.dumps(_rounded(outcomes[-1])), flush=True)
    if options.json:
        print(json.dumps(summary(options, outcomes)))


if __name__ == "__main__":
    main()
