"""Replies of every policy to the test prompts, at temperature 1 and at its own best temperature.

Prefix and temperature are chosen by the reward model on validation prompts; nothing is chosen on
test prompts, and nothing here can reach the judge or a labeler. A reply of any policy ends where
the next turn or a new line begins, so that a base that never stops is not judged for its rambling.
"""

import itertools
from collections.abc import Mapping, Sequence

from rlhf_core.model.base_model import Base
from rlhf_core.records import Prompt
from rlhf_core.reproduction.policies import (
    ADAPTER,
    Reply,
    as_prompt,
    attach,
    cut_replies,
    loaded,
    optimise,
    reward_of,
)
from rlhf_core.reproduction.stages import Facts, StageInput
from rlhf_core.reward.reward_model import Score, scores_of
from rlhf_core.worlds.miniature.corpus import PREFIXES, prompted
from rlhf_core.worlds.miniature.skills import score as skill_scores
from rlhf_core.worlds.miniature.world import CustomerRequest, requests

SETS: dict[str, dict[str, object]] = {
    "mixed": {},
    "facts": {"kinds": ("question",)},
    "passages": {"kinds": ("passage",)},
    "respectful": {"style": "respectful"},
    "rude": {"style": "rude"},
}
PLAIN = PREFIXES[0].name  # no prefix
AT_BEST = ("mixed", "facts")  # sets that are answered at the best temperature, too


def test_set(name: str, n: int, seed: int) -> list[CustomerRequest]:
    """The test requests of a set, the same for every policy."""
    return requests(n, seed=seed, split="test", **SETS[name])  # type: ignore[arg-type]


def validation(given: StageInput) -> list[CustomerRequest]:
    """Requests on which prefixes and temperatures are chosen."""
    return requests(given.profile.validation, seed=given.seed, split="validation")


def choose_prefix(given: StageInput) -> Facts:
    """The prefix behind which the base's replies score best; the score reads the request alone."""
    base, asked = loaded(given), validation(given)
    score, plain = reward_of(base, given).score, [as_prompt(r) for r in asked]
    found = {}
    for number, prefix in enumerate(PREFIXES):
        prompts = [prompted(prefix, request) for request in asked]
        replies = cut_replies(base, base.respond(prompts, adapter=None, seed=given.seed))
        found[prefix.name] = _mean(score, plain, replies)
        given.report((number + 1) / len(PREFIXES), {})
    return {"prefix": max(found, key=found.__getitem__), "scores": found}


def answer_behind_all(given: StageInput) -> Facts:
    """Replies of a base of another line behind every prefix at every temperature, to be scored."""
    base, asked = loaded(given), validation(given)
    found: dict[str, list[list[Reply]]] = {}
    for number, prefix in enumerate(PREFIXES):
        prompts = [prompted(prefix, request) for request in asked]
        found[prefix.name] = [
            cut_replies(base, base.respond(prompts, adapter=None, temperature=t, seed=given.seed))
            for t in given.profile.temperatures
        ]
        given.report((number + 1) / len(PREFIXES), {})
    return {"replies": found}


def choose_for_other_base(given: StageInput) -> Facts:
    """The prefix and temperatures of a base of another line, by the policy's own reward model.

    As for the policy's base: the prefix that is best at temperature 1; then the temperature that
    is best behind it, and the one that is best without a prefix.
    """
    score = reward_of(loaded(given), given).score
    plain, temperatures = [as_prompt(r) for r in validation(given)], given.profile.temperatures
    replies = given.facts("large-candidates")["replies"]
    scores = {
        name: dict(zip(temperatures, (_mean(score, plain, one) for one in rows), strict=True))
        for name, rows in replies.items()
    }
    prefix, best = best_of_scores(scores)
    return {"prefix": prefix, "temperatures": best, "scores": scores}


def best_of_scores(scores: Mapping[str, Mapping[float, float]]) -> tuple[str, dict[str, float]]:
    """The best prefix at temperature 1, and the best temperatures behind it and without one."""
    prefix = max(scores, key=lambda name: scores[name][1.0])
    behind = {"prompted": scores[prefix], "base": scores[PLAIN]}
    return prefix, {name: max(row, key=row.__getitem__) for name, row in behind.items()}


def answer(given: StageInput) -> Facts:
    """A policy's replies to every test set, and its skills.

    Options: ``adapter``, the stage whose policy it is, or nothing for the base; ``prefixed``,
    whether requests stand behind the chosen prefix; ``sets``, which ones.
    """
    base, adapter = loaded(given), given.options.get("adapter")
    if adapter:
        attach(base, given, adapter)
    best = _best_temperature(base, given, adapter)
    found: dict[str, list[Reply]] = {}
    names = given.options.get("sets", list(SETS))
    for done, name in enumerate(names):
        asked = test_set(name, given.profile.test, given.seed)
        prompts = _prompts(given, asked)
        for said, temperature in ((name, 1.0), (f"{name}, best", best)):
            if said == name or (name in AT_BEST and best != 1.0):
                drawn = base.respond(
                    prompts, adapter=adapter, temperature=temperature, seed=given.seed
                )
                found[said] = cut_replies(base, drawn)
            elif name in AT_BEST:
                found[said] = found[name]
        given.report((done + 1) / len(names), {})
    return {"replies": found, "temperature": best}


def sample_many(given: StageInput) -> Facts:
    """`best_of` replies by SFT to each mixed test prompt, from which best-of-n chooses."""
    base, most = loaded(given), given.profile.best_of
    attach(base, given, "sft")
    prompts = [as_prompt(r) for r in test_set("mixed", given.profile.test, given.seed)]
    every = []
    for k in range(most):
        drawn = base.respond(prompts, adapter="sft", seed=1000 * given.seed + k)
        every.append(cut_replies(base, drawn))
        given.report((k + 1) / most, {})
    return {"replies": every}


def answer_best_of(given: StageInput) -> Facts:
    """For n = 1, 2, 4 ..., of the first n replies to each prompt the one that scores best.

    Options: ``reward``, the stage whose reward model scores.
    """
    every: list[list[Reply]] = given.facts("best-of-samples")["replies"]
    most = len(every)
    prompts = [as_prompt(r) for r in test_set("mixed", given.profile.test, given.seed)]
    score = reward_of(loaded(given), given, given.options["reward"]).score
    flat = list(itertools.chain.from_iterable(every))
    scores = scores_of(score, prompts * most, [text for text, _ in flat]).reshape(
        most, -1
    )  # (n, N)
    found = []
    for n in (2**k for k in range(most.bit_length()) if 2**k <= most):
        best = scores[:n].argmax(0).tolist()  # (N,)
        replies = [every[k][i] for i, k in enumerate(best)]
        mean = float(scores[:n].max(0).values.mean())
        found.append({"n": n, "score": mean, "replies": replies})
    return {"best of": found, "replies": {"mixed": found[-1]["replies"]}}


def optimise_and_answer(given: StageInput) -> Facts:
    """A part of a long PPO run, and the replies to the mixed test set where it ends."""
    facts = optimise(given)
    base = loaded(given)
    base.attach_weights("policy", given.folder / ADAPTER)
    prompts = [as_prompt(r) for r in test_set("mixed", given.profile.test, given.seed)]
    replies = cut_replies(base, base.respond(prompts, adapter="policy", seed=given.seed))
    return facts | {"replies": {"mixed": replies}}


def measure_skills(given: StageInput) -> Facts:
    """The five skills of a policy, item by item, and the score of its replies to validation."""
    base, adapter = loaded(given), given.options.get("adapter")
    if adapter:
        attach(base, given, adapter)
    asked = [as_prompt(r) for r in validation(given)]
    replies = cut_replies(base, base.respond(asked, adapter=adapter, seed=given.seed))
    return {
        "skills": skill_scores(base, adapter, n=given.profile.items, seed=given.seed),
        "score": _mean(reward_of(base, given).score, asked, replies),
    }


def _best_temperature(base: Base, given: StageInput, adapter: str | None) -> float:
    """The temperature at which the policy's replies to validation prompts score best.

    For a base of another line it was chosen with its prefix, because the score is another base's.
    """
    if "reward" not in given.before:
        named = "prompted" if given.options.get("prefixed") else "base"
        return float(given.facts("prefix")["temperatures"][named])
    asked = validation(given)
    prompts, plain = _prompts(given, asked), [as_prompt(r) for r in asked]
    score = reward_of(base, given).score
    means = {}
    for temperature in given.profile.temperatures:
        drawn = base.respond(prompts, adapter=adapter, temperature=temperature, seed=given.seed)
        means[temperature] = _mean(score, plain, cut_replies(base, drawn))
    return max(means, key=means.__getitem__)


def _prompts(given: StageInput, asked: Sequence[CustomerRequest]) -> list[Prompt]:
    """The requests as conversations, behind the chosen prefix if the policy has one."""
    if not given.options.get("prefixed"):
        return [as_prompt(request) for request in asked]
    named = {prefix.name: prefix for prefix in PREFIXES}
    chosen = named[given.facts("prefix")["prefix"]]
    return [prompted(chosen, request) for request in asked]


def _mean(score: Score, prompts: Sequence[Prompt], replies: Sequence[Reply]) -> float:
    return float(scores_of(score, prompts, [text for text, _ in replies]).mean())
