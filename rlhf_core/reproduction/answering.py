"""Replies of every policy to the test prompts, at temperature 1 and at its own best temperature.

Prefix and temperature are chosen by the reward model on validation prompts; nothing is chosen on
test prompts, and nothing here can reach the judge or a labeler. A reply of any policy ends where
the next turn or a new line begins, so that a base that never stops is not judged for its rambling.
"""

import itertools
from collections.abc import Sequence

from rlhf_core.model.base_model import Base, Response
from rlhf_core.records import Prompt
from rlhf_core.reproduction.policies import (
    ADAPTER,
    as_prompt,
    attach,
    loaded,
    optimise,
    reward_of,
)
from rlhf_core.reproduction.stages import Facts, StageInput
from rlhf_core.reward.reward_model import Score, scores_of
from rlhf_core.worlds.miniature.corpus import PREFIXES, prompted
from rlhf_core.worlds.miniature.skills import score as skill_scores
from rlhf_core.worlds.miniature.world import CustomerRequest, requests
from rlhf_core.worlds.starter.corpus import ASSISTANT, USER

Reply = tuple[str, bool]  # its text, and whether it ended
SETS: dict[str, dict[str, object]] = {
    "mixed": {},
    "facts": {"kinds": ("question",)},
    "passages": {"kinds": ("passage",)},
    "respectful": {"style": "respectful"},
    "rude": {"style": "rude"},
}
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


def answer_best_of(given: StageInput) -> Facts:
    """Of several replies by SFT to each test prompt, the one that scores best."""
    base, n = loaded(given), given.profile.best_of
    attach(base, given, "sft")
    score = reward_of(base, given).score
    prompts = [as_prompt(r) for r in test_set("mixed", given.profile.test, given.seed)]
    every = [
        cut_replies(base, base.respond(prompts, adapter="sft", seed=1000 * given.seed + k))
        for k in range(n)
    ]
    flat = list(itertools.chain.from_iterable(every))
    scores = scores_of(score, prompts * n, [text for text, _ in flat]).reshape(n, -1)  # (n, N)
    best = scores.argmax(0).tolist()
    return {"replies": {"mixed": [every[k][i] for i, k in enumerate(best)]}}


def answer_best_of_each(given: StageInput) -> Facts:
    """Best-of-n for n = 1, 2, 4 ... by each of two reward models: replies and their mean scores."""
    base, most = loaded(given), given.profile.best_of
    attach(base, given, "sft")
    prompts = [as_prompt(r) for r in test_set("mixed", given.profile.test, given.seed)]
    every = [
        cut_replies(base, base.respond(prompts, adapter="sft", seed=2000 * given.seed + k))
        for k in range(most)
    ]
    flat = list(itertools.chain.from_iterable(every))
    found: dict[str, list[Facts]] = {}
    for name in ("reward-one", "reward"):
        reward = reward_of(base, given, name)
        scores = scores_of(reward.score, prompts * most, [text for text, _ in flat])
        scores = scores.reshape(most, -1)  # (n, N)
        reward.drop()  # both have the same adapters' names
        found[name] = []
        for n in (2**k for k in range(most.bit_length()) if 2**k <= most):
            best = scores[:n].argmax(0).tolist()  # (N,)
            replies = [every[k][i] for i, k in enumerate(best)]
            mean = float(scores[:n].max(0).values.mean())
            found[name].append({"n": n, "score": mean, "replies": replies})
    return found


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


def cut_replies(base: Base, drawn: Sequence[Response]) -> list[Reply]:
    """Each reply up to its next turn or new line; one that is cut there has ended."""
    turns = set(base.tokenizer.convert_tokens_to_ids([USER, ASSISTANT]))
    return [_cut(base, reply, turns) for reply in drawn]


def _cut(base: Base, reply: Response, turns: set[int]) -> Reply:
    ids = list(itertools.takewhile(lambda token: token not in turns, reply.token_ids))
    text, _, rest = base.chat.decode_reply(ids).strip().partition("\n")
    return text, reply.finished or len(ids) < len(reply.token_ids) or bool(rest)


def _best_temperature(base: Base, given: StageInput, adapter: str | None) -> float:
    """The temperature at which the policy's replies to validation prompts score best."""
    asked = validation(given)
    prompts, plain = _prompts(given, asked), [as_prompt(r) for r in asked]
    score = reward_of(base, given).score if "reward" in given.before else None
    if score is None:
        return 1.0
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
