"""Rounds of new votes and training, for claim 11: each goes on from where the one before ended.

In a round the newest policy writes replies to prompts of this round, labelers rank them
(`labelling.label_round`), a reward model is made anew from the votes of all rounds so far, and
PPO-ptx goes on from the newest policy. The first one is SFT, which stays the reference of the KL
penalty. Prompts are drawn anew for each round; as in a service, some say what others have said.

Invariant: nothing here can reach the judge or a labeler.
"""

from rlhf_core.reproduction.policies import (
    SEED_STRIDE,
    Reply,
    as_prompt,
    attach,
    cut_replies,
    draw,
    keep_reward,
    loaded,
    paired_requests,
    read_votes,
    reward_of,
)
from rlhf_core.reproduction.profiles import ReproductionProfile
from rlhf_core.reproduction.stages import Facts, StageInput
from rlhf_core.train_reward import Samples
from rlhf_core.worlds.miniature.world import CustomerRequest, requests

ROUNDS = (1, 2, 3)
PROMPTS_SHARE = 5  # a round has a fifth of the prompts that the other claims' votes are about
ITERATIONS_SHARE = 2  # and half of the iterations of the other claims' PPO
MEMBERS_SHARE = 2  # and half of the members, rounded up, because there are three reward models


def start_of(number: int) -> str:
    """The policy that a round begins with."""
    return f"round-{number - 1}" if number > 1 else "sft"


# Of the last round: the policy on whose replies its votes are, and the one that PPO made by them.
VOTED_ON, AFTER = WRITERS = (start_of(ROUNDS[-1]), f"round-{ROUNDS[-1]}")
STALE, FRESH = (f"round-{number}-reward" for number in (ROUNDS[0], ROUNDS[-1]))
MORE = "reward"  # of the other claims: as stale, but from five times as many votes, more members
MODELS = (STALE, FRESH, MORE)


def round_members(profile: ReproductionProfile) -> int:
    """The members of a round's reward model."""
    return -(-profile.members // MEMBERS_SHARE)


def round_iterations(profile: ReproductionProfile) -> int:
    """PPO's iterations in a round."""
    return profile.iterations // ITERATIONS_SHARE


def round_requests(profile: ReproductionProfile, seed: int, number: int) -> list[CustomerRequest]:
    """The prompts of a round whose replies labelers rank."""
    n = profile.ranked_prompts // PROMPTS_SHARE
    return requests(n, seed=seed + SEED_STRIDE * number, split="train")


def write_for_round(given: StageInput) -> Facts:
    """The newest policy's replies to the prompts of a round. Options: ``round``."""
    base, number = loaded(given), given.options["round"]
    writer = start_of(number)
    attach(base, given, writer)
    prompts = [as_prompt(r) for r in round_requests(given.profile, given.seed, number)]
    drawn = []
    for k in range(given.profile.ranked):
        replies = base.respond(prompts, adapter=writer, seed=draw(given, 10 * number + k))
        drawn.append(cut_replies(base, replies))
        given.report((k + 1) / given.profile.ranked, {})
    return {"replies": [list(row) for row in zip(*drawn, strict=True)]}


def learn_from_rounds(given: StageInput) -> Facts:
    """A reward model from the votes of all rounds so far. Options: ``round``, ``members``.

    Its zero and unit are of the first round's replies, which are by SFT.
    """
    so_far = range(1, given.options["round"] + 1)
    votes = [c for r in so_far for c in read_votes(given.before[f"round-{r}-votes"])[0]]
    asked = round_requests(given.profile, given.seed, 1)
    rows = given.facts("round-1-samples")["replies"]
    samples = Samples(tuple(map(as_prompt, asked)), tuple(row[0][0] for row in rows))
    return keep_reward(given, votes, (), samples, members=given.options["members"])


def predict_fresh_pairs(given: StageInput) -> Facts:
    """Two replies by each later policy to requests of the test pairs, and which the models prefer.

    No reward model has learnt from these requests' subjects. The pairs by SFT are those of claim 9.
    """
    asked = [as_prompt(r) for r in paired_requests(given.profile, given.seed)]
    pairs: dict[str, list[list[Reply]]] = {"sft": given.facts("pairs")["pairs"]}
    for place, writer in enumerate(WRITERS):
        base = loaded(given)
        attach(base, given, writer)
        both = [
            cut_replies(base, base.respond(asked, adapter=writer, seed=draw(given, number)))
            for number in (200 + 2 * place, 201 + 2 * place)
        ]
        pairs[writer] = [list(pair) for pair in zip(*both, strict=True)]
    found: dict[str, dict[str, list[float]]] = {writer: {} for writer in pairs}
    for model in MODELS:
        reward = reward_of(loaded(given), given, model)
        for writer, rows in pairs.items():
            first, second = ([pair[k][0] for pair in rows] for k in (0, 1))
            found[writer][model] = reward.preference(asked, first, second).tolist()
    return {"pairs": pairs, "probabilities": found}
