"""Claim 14: PPO with a critic against RLOO, which compares the replies to one prompt."""

from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.measures.statistics import share


def ppo_and_rloo(judged: JudgedPolicies) -> Found:
    """The same episodes, penalty and learning rate; memory is not measured."""
    figures = {
        "RLOO over PPO": share(judged.wins("rloo", "ppo"), "held-out labelers"),
        "by the exact judge": share(judged.gold_wins("rloo", "ppo")),
    }
    for name in ("ppo", "rloo"):
        facts = judged.facts(name)
        for key, said in (
            ("objective/kl", "KL from SFT, nats a reply"),
            ("objective/scores", "score of the last rollout"),
            ("cpu_seconds", "seconds of one processor"),
        ):
            figures[f"{said}, {name}"] = Figure(sum(one[key] for one in facts) / len(facts))
    return Found(figures)
