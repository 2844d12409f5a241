"""Claim 14: PPO with a critic against RLOO, which compares the replies to one prompt.

Both runs end at their own distance from SFT, so the gold reward stands beside the KL. Gold at an
equal KL is not given: it rises ever more slowly with the distance, and a straight line from the
start would put whoever went further below what it had at the shorter distance. Nor is memory: the
stages share two processes, whose peak is that of whichever stage was largest.
"""

import math

from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.measures.judged import GOLD, JudgedPolicies
from rlhf_core.reproduction.measures.statistics import Table, bootstrap, difference, share


def ppo_and_rloo(judged: JudgedPolicies) -> Found:
    """The same episodes, penalty and learning rate."""
    gold = {name: _gold(judged, name) for name in ("sft", "ppo", "rloo")}
    figures = {
        "RLOO over PPO": share(judged.wins("rloo", "ppo"), "held-out labelers"),
        "by the exact judge": share(judged.gold_wins("rloo", "ppo")),
        "gold reward, rloo less ppo": difference(gold["rloo"], gold["ppo"], unit=GOLD),
    }
    curves = {}
    for name in ("ppo", "rloo"):
        facts = judged.facts(name)
        for key, said in (
            ("objective/kl", "KL from SFT, nats a reply"),
            ("objective/scores", "score of the last rollout"),
            ("cpu_seconds", "seconds of one processor"),
        ):
            figures[f"{said}, {name}"] = Figure(sum(one[key] for one in facts) / len(facts))
        figures[f"gold reward, {name}"] = bootstrap([gold[name]], lambda means: means[0], unit=GOLD)
        distance = math.sqrt(max(0.0, figures[f"KL from SFT, nats a reply, {name}"].value))
        curves[name] = [(0.0, gold["sft"].mean), (distance, gold[name].mean)]
    return Found(figures, curves=curves, axes=("square root of KL, nats", GOLD))


def _gold(judged: JudgedPolicies, policy: str) -> Table:
    return judged.verdicts(policy, "mixed", lambda _, v: v.gold)
