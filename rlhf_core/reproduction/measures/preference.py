"""Claims 1, 2, 3 and 8: which policy labelers prefer."""

import itertools

from rlhf_core.reproduction.claims import Figure, Found
from rlhf_core.reproduction.measures.judged import JudgedPolicies
from rlhf_core.reproduction.measures.statistics import difference, share, share_within
from rlhf_core.worlds.miniature.labelers import Group
from rlhf_core.worlds.miniature.world import MIX

LEAST_TIMES_LARGER = 20  # the large base of claim 3


def over_base(judged: JudgedPolicies) -> Found:
    """Claim 1: PPO-ptx against the base it began as."""
    won, ended = judged.wins("ptx", "base"), judged.both_ended("ptx", "base")
    figures = {
        "win rate": share(won, "PPO-ptx over the base, held-out labelers, temperature 1"),
        "by the exact judge": share(judged.gold_wins("ptx", "base")),
        "each at its best temperature": share(judged.wins("ptx", "base", best=True)),
        "where both replies end": share_within(won, ended),
        "over a constant reply": share(judged.wins("ptx", "constant")),
        "over a template": share(judged.wins("ptx", "template")),
        "SFT over the base": share(judged.wins("sft", "base")),
        "PPO over the base": share(judged.wins("ppo", "base")),
        "best-of-n over the base": share(judged.wins("best-of-reward", "base")),
        "PPO-ptx over SFT": share(judged.wins("ptx", "sft")),
    }
    for kind in MIX:
        chosen = judged.of_kind("mixed", lambda request, kind=kind: request.kind == kind)  # type: ignore[misc]
        figures[f"requests of kind {kind}"] = share_within(won, chosen)
    for policy in ("base", "sft", "ppo", "ptx"):
        figures[f"distinct pairs of words, {policy}"] = Figure(_distinct(judged, policy))
    return Found(figures)


def over_prompted(judged: JudgedPolicies) -> Found:
    """Claim 2: PPO-ptx against the base behind the best prefix."""
    chosen = ", ".join(str(facts["prefix"]) for facts in judged.facts("prefix"))
    return Found(
        {
            "win rate": share(judged.wins("ptx", "prompted"), "PPO-ptx over the prompted base"),
            "by the exact judge": share(judged.gold_wins("ptx", "prompted")),
            "each at its best temperature": share(judged.wins("ptx", "prompted", best=True)),
            "prompted over the base": share(judged.wins("prompted", "base")),
        },
        [f"prefix chosen on validation prompts: {chosen}"],
    )


def over_larger(judged: JudgedPolicies) -> Found:
    """Claim 3: the small PPO-ptx against a much larger base."""
    profile = judged.seeds[0].kept.profile
    line = "" if profile.small == profile.policy else "small-"
    sizes = list(zip(judged.facts(f"{line}base"), judged.facts("large-base"), strict=True))
    times = min(large["parameters"] / small["parameters"] for small, large in sizes)
    loss = min(small["validation_loss"] - large["validation_loss"] for small, large in sizes)
    chosen = ", ".join(str(facts["prefix"]) for facts in judged.facts("large-prefix"))
    remarks = [f"prefix of the large base, chosen on validation prompts: {chosen}"]
    if times < LEAST_TIMES_LARGER:
        remarks.append(f"the large base is only {times:.1f} times larger: no claim can be made")
    if loss <= 0:
        remarks.append("the large base predicts the corpus no better: it is no larger model in use")
    return Found(
        {
            "win rate": share(judged.wins(f"{line}ptx", "large-base"), "small PPO-ptx, large base"),
            "by the exact judge": share(judged.gold_wins(f"{line}ptx", "large-base")),
            "over the large base with a prefix": share(judged.wins(f"{line}ptx", "large-prompted")),
            "each at its best temperature": share(
                judged.wins(f"{line}ptx", "large-base", best=True)
            ),
            "times larger": Figure(times),
            "lower loss of the large base, nats a token": Figure(loss, about="least of the seeds"),
        },
        remarks,
    )


def by_held_out_labelers(judged: JudgedPolicies) -> Found:
    """Claim 8: training and held-out labelers on the same replies."""
    groups: tuple[Group, Group] = ("train", "held out")
    trained, held_out = (judged.wins("ptx", "base", group=group) for group in groups)
    figures = {
        "difference": difference(trained, held_out, "training less held-out labelers"),
        "by training labelers": share(trained),
        "by held-out labelers": share(held_out),
    }
    for group in groups:
        ladder = ["base", "prompted", "sft", "ppo"]
        rates = [0.5] + [share(judged.wins(p, "base", group=group)).value for p in ladder[1:]]
        named = "training" if group == "train" else "held-out"
        figures[f"in order, {named} labelers"] = Figure(
            float(all(low < high for low, high in itertools.pairwise(rates))),
            about="base, prompted, SFT, PPO: " + ", ".join(f"{rate:.2f}" for rate in rates),
        )
    return Found(figures)


def _distinct(judged: JudgedPolicies, policy: str) -> float:
    """Different pairs of neighbouring words as a share of all, over a policy's replies."""
    pairs = [
        pair
        for one in judged.seeds
        for text in one.texts(policy, "mixed")
        for pair in itertools.pairwise(text.lower().split())
    ]
    return len(set(pairs)) / max(1, len(pairs))
