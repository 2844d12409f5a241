"""The models that are compared, each trained by the project's own stages.

Invariant: nothing here can reach the judge or a labeler. Prompts and written answers come from the
world's training splits, comparisons from a file that `labelling.py` wrote.
"""

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

from rlhf_core.config import PolicySettings, ReplySettings, RewardSettings, SFTSettings
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.base_model import Base, Response
from rlhf_core.model.loading import load_base
from rlhf_core.records import Comparison, Demonstration, Prompt, Unpaired
from rlhf_core.reproduction.profiles import ReproductionProfile
from rlhf_core.reproduction.stages import Facts, StageInput
from rlhf_core.reward.reward_model import RewardModel
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import Samples, train_reward
from rlhf_core.train_sft import train_sft
from rlhf_core.worlds.miniature.build import build
from rlhf_core.worlds.miniature.corpus import ptx_texts
from rlhf_core.worlds.miniature.replies import demonstration
from rlhf_core.worlds.miniature.world import CustomerRequest, requests
from rlhf_core.worlds.starter.corpus import ASSISTANT, USER

Reply = tuple[str, bool]  # its text, and whether it ended
REPLY = ReplySettings(prompt_tokens=208, tokens=48)
MODEL, ADAPTER, REWARD, VOTES = "model", "adapter", "reward", "votes.json"
LEARNING_RATE = 1.4e-3  # of PPO, in all runs
KL_COEF = 0.1  # of PPO; claims 7 and 10 try others
UNBOUNDED = 1e4  # nats; a budget that no run reaches
SEED_STRIDE = 1000  # between the seeds of the prompts of two rounds


def pretrain(given: StageInput) -> Facts:
    """Build the base of a size from the corpus."""
    built = build(
        given.folder / MODEL,
        given.options["size"],
        steps=given.profile.steps,
        seed=given.seed,
        least_cloze=given.options.get("least_cloze", given.profile.least_cloze),
        least_marked=given.options.get("least_marked", given.profile.least_marked),
        progress=given.report,
    )
    return {
        "parameters": built.parameters,
        "lessons": built.lessons,
        "cloze_accuracy": built.cloze_accuracy,
        "marked": built.marked,
        "validation_loss": built.validation_loss,
    }


def imitate(given: StageInput) -> Facts:
    """SFT on written answers, whose facts are in no other prompt."""
    base, rng = loaded(given), random.Random(f"demonstrations/{given.seed}")
    asked = requests(given.profile.demonstrations, seed=given.seed, split="demonstrations")
    base.attach("sft", trainable=True, seed=given.seed)
    metrics = train_sft(
        base,
        [Demonstration(as_prompt(r), demonstration(r, rng)) for r in asked],
        adapter="sft",
        settings=SFTSettings(epochs=given.profile.sft_epochs),
        progress=given.report,
        seed=given.seed,
        checkpoints=given.checkpoints,
    )
    base.save("sft", given.folder / ADAPTER)
    return dict(metrics)


def ranked_requests(given: StageInput) -> list[CustomerRequest]:
    """What the labelers are shown replies to."""
    return requests(given.profile.ranked_prompts, seed=given.seed, split="train")


def sample_replies(given: StageInput) -> Facts:
    """Replies to be ranked: all but one by SFT, the last by the base, so that both are known."""
    base, prompts = loaded(given), [as_prompt(r) for r in ranked_requests(given)]
    attach(base, given, "sft")
    drawn = []
    for k in range(given.profile.ranked):
        writer = "sft" if k < given.profile.ranked - 1 else None
        replies = base.respond(prompts, adapter=writer, seed=draw(given, k))
        drawn.append(cut_replies(base, replies))
        given.report((k + 1) / given.profile.ranked, {})
    return {"replies": [list(row) for row in zip(*drawn, strict=True)]}


def learn_reward(given: StageInput) -> Facts:
    """The reward model, which begins as SFT and learns from rankings, each one opinion.

    Options: ``members``.
    """
    asked, replies = ranked_requests(given), given.facts("samples")["replies"]
    samples = Samples(tuple(map(as_prompt, asked)), tuple(row[0][0] for row in replies))
    members = given.options.get("members", given.profile.members)
    return keep_reward(given, *read_votes(given.before["votes"]), samples, members=members)


def keep_reward(
    given: StageInput,
    comparisons: Sequence[Comparison],
    thumbs: Sequence[Unpaired],
    samples: Samples,
    *,
    members: int,
) -> Facts:
    """Train a reward model that begins as SFT, and keep it; its unit is of SFT's samples."""
    base = loaded(given)
    attach(base, given, "sft")
    reward = train_reward(
        base,
        comparisons,
        unpaired=thumbs,
        # All layers: the upper half sees too little of what a reply says. One pass, as in the
        # paper, and a small rate: more of either forgets what the base knows of passages. A head
        # of random weights drowns it, and so few steps do not unlearn these (decision 0051).
        settings=RewardSettings(
            members=members, epochs=1, learning_rate=1e-3, head_scale=0.0, layers=1.0
        ),
        name=REWARD,
        start="sft",
        samples=samples,
        progress=given.report,
        seed=given.seed,
        checkpoints=given.checkpoints,
    )
    temperature = reward.temperature
    reward.save(given.folder / "staging")
    publish_adapter(
        given.folder / "staging", given.folder / REWARD, kind="reward", base=base.fingerprint
    )
    return {"temperature": temperature}


def sample_test_pairs(given: StageInput) -> Facts:
    """Two replies by SFT to each request of subjects that teach no reward model."""
    base, prompts = (
        loaded(given),
        [as_prompt(r) for r in paired_requests(given.profile, given.seed)],
    )
    attach(base, given, "sft")
    drawn = [
        cut_replies(base, base.respond(prompts, adapter="sft", seed=draw(given, 100 + k)))
        for k in (0, 1)
    ]
    return {"pairs": [list(pair) for pair in zip(*drawn, strict=True)]}


def paired_requests(profile: ReproductionProfile, seed: int) -> list[CustomerRequest]:
    """What the test pairs answer: subjects of validation, since no reward model learns these.

    Some are the very requests on which prefixes and temperatures are chosen, which is no harm: that
    choice is of a policy, and the pairs measure reward models.
    """
    return requests(profile.test, seed=seed + 700, split="validation")


def learn_and_predict(given: StageInput) -> Facts:
    """A reward model, and how probable it finds the first reply of each test pair."""
    facts = learn_reward(given)
    base = loaded(given)
    prompts = [as_prompt(r) for r in paired_requests(given.profile, given.seed)]
    first, second = ([pair[k][0] for pair in given.facts("pairs")["pairs"]] for k in (0, 1))
    found = reward_of(base, given, given.folder).preference(prompts, first, second)
    return facts | {"probabilities": found.tolist()}


def optimise(given: StageInput) -> Facts:
    """PPO from SFT, which is also the reference of the KL; options say what is different.

    Options: ``ptx``, ``kl_coef``, ``estimator`` and ``iterations``, as PPO's settings; ``start``, a
    stage whose policy it begins as; ``reward``, a stage whose reward model scores; ``round``, each
    of which has prompts of its own.
    """
    base, profile = loaded(given), given.profile
    attach(base, given, "sft")
    start = given.before[given.options.get("start", "sft")]
    base.attach_weights("policy", start / ADAPTER, trainable=True)
    asked = ppo_requests(profile, given.seed, given.options.get("round", 0))
    settings = PolicySettings(
        iterations=given.options.get("iterations", profile.iterations),
        batch_size=profile.batch,
        minibatch_size=profile.batch,
        learning_rate=LEARNING_RATE,
        kl_coef=given.options.get("kl_coef", KL_COEF),
        kl_budget=UNBOUNDED,
        ptx_coef=given.options.get("ptx", 0.0),
        estimator=given.options.get("estimator", "gae"),
    )
    metrics = train_policy(
        base,
        [as_prompt(request) for request in asked],
        reward_of(base, given, given.options.get("reward", REWARD)).score,
        adapter="policy",
        reference="sft",
        anchor="sft",
        settings=settings,
        texts=ptx_texts(profile.texts, given.seed) if settings.ptx_coef else (),
        progress=given.report,
        seed=given.seed,
        checkpoints=given.checkpoints,
    )
    base.save("policy", given.folder / ADAPTER)
    return {name: metrics[name] for name in ("objective/kl", "objective/scores", "iterations")}


def ppo_requests(profile: ReproductionProfile, seed: int, number: int = 0) -> list[CustomerRequest]:
    """The prompts of PPO's rollouts in a round; 0 is PPO without rounds."""
    return requests(profile.ppo_prompts, seed=seed + 500 + SEED_STRIDE * number, split="train")


def cut_replies(base: Base, drawn: Sequence[Response]) -> list[Reply]:
    """Each reply up to its next turn or new line; one that is cut there has ended.

    Labelers, reward models and the judge all see replies like this.
    """
    turns = set(base.tokenizer.convert_tokens_to_ids([USER, ASSISTANT]))
    return [_cut(base, reply, turns) for reply in drawn]


def _cut(base: Base, reply: Response, turns: set[int]) -> Reply:
    ids = list(itertools.takewhile(lambda token: token not in turns, reply.token_ids))
    text, _, rest = base.chat.decode_reply(ids).strip().partition("\n")
    return text, reply.finished or len(ids) < len(reply.token_ids) or bool(rest)


def loaded(given: StageInput) -> Base:
    """The base that the stage is about."""
    return load_base(str(given.before["base"] / MODEL), quantization="none", reply=REPLY)


def attach(base: Base, given: StageInput, *stages: str) -> None:
    """Attach the adapters that stages before wrote, under the stages' names."""
    for stage in stages:
        base.attach_weights(stage, given.before[stage] / ADAPTER)


def reward_of(base: Base, given: StageInput, stage: str | Path = REWARD) -> RewardModel:
    """The reward model of a stage before, or of a folder."""
    folder = stage if isinstance(stage, Path) else given.before[stage]
    return RewardModel.load(base, folder / REWARD)


def as_prompt(request: CustomerRequest) -> Prompt:
    """A request as training and decoding take it."""
    return _turn(request.text)


def write_votes(
    folder: Path, comparisons: Sequence[Comparison], thumbs: Sequence[Unpaired] = ()
) -> None:
    """Keep votes for the stages that learn from them; each is about one turn."""
    rows = [
        [_text(c.prompt), c.response_a, c.response_b, c.label, c.group, c.could_tie]
        for c in comparisons
    ]
    alone = [[_text(t.prompt), t.response, t.good, t.rater] for t in thumbs]
    kept = {"comparisons": rows, "weights": [c.weight for c in comparisons], "thumbs": alone}
    (folder / VOTES).write_text(json.dumps(kept))


def read_votes(folder: Path) -> tuple[list[Comparison], list[Unpaired]]:
    """Votes as `write_votes` kept them."""
    found = json.loads((folder / VOTES).read_text())
    rows = zip(found["comparisons"], found["weights"], strict=True)
    comparisons = [
        Comparison(_turn(text), a, b, label, weight, group=group, could_tie=could_tie)
        for (text, a, b, label, group, could_tie), weight in rows
    ]
    return comparisons, [Unpaired(_turn(text), *rest) for text, *rest in found["thumbs"]]


def _text(prompt: Prompt) -> str:
    return prompt[-1]["content"]


def _turn(text: str) -> Prompt:
    return [{"role": "user", "content": text}]


def draw(given: StageInput, number: int) -> int:
    """A seed for one of several samplings."""
    return 1000 * given.seed + number
