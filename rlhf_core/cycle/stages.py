"""The stages of a cycle between its snapshot and its verdict; every process runs them."""

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, cycle, islice
from pathlib import Path
from typing import Any

import torch

from feedback_store import FeedbackStore
from rlhf_core.config import CycleSettings, ReplySettings
from rlhf_core.cycle.fitting import fit_snapshot
from rlhf_core.cycle.report import budget_spent
from rlhf_core.cycle.resume import FOLDER, METRICS
from rlhf_core.cycle.signing import adapter_key
from rlhf_core.cycle.snapshot import Snapshot, without
from rlhf_core.errors import NotEnoughDataError, ReplicaLostError
from rlhf_core.gate.checks import Check, check_votes
from rlhf_core.gate.evaluation import Accuracy, Evaluation, accuracy, calibration_error, evaluate
from rlhf_core.gate.held_out_raters import measure_votes
from rlhf_core.gate.probes.packs import Probe
from rlhf_core.gate.score_habits import measure_habits
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import Quantization, load_base
from rlhf_core.ppo.trainer import REFERENCE
from rlhf_core.records import Comparison, Prompt
from rlhf_core.reward.forgetting import best_half_life, faded
from rlhf_core.reward.heads import LinearHeads, fit_heads
from rlhf_core.reward.reward_model import RewardModel, scores_of
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import Samples, train_reward
from rlhf_core.train_sft import train_sft
from rlhf_core.training.distributed import broadcast, first_process, rank
from rlhf_core.training.memory import give_back, out_of_memory_in_one_line
from rlhf_core.training.stage import Stopwatch
from rlhf_core.training.vllm.replica import Servers
from rlhf_core.training.vllm.rollouts import Rollouts

BASE_ADAPTER = "policy-000000"  # the base without an adapter
STAGES = ("snapshot", "sft", "reward", "policy", "evaluate", "publish")
SHARES = dict(zip(STAGES, (0.01, 0.06, 0.33, 0.51, 0.08, 0.01), strict=True))  # the starter's
SAMPLED, TRAINED = 0.05, 0.80  # of the starter's reward stage; the rest of it scores the votes
CURVES = ("objective/kl", "objective/scores", "objective/entropy", "val/length")
STARTER_TEXTS = 2000  # almanac documents for the ptx loss

Progress = Callable[[str, float, dict[str, float]], None]


@dataclass(slots=True)
class Run:
    """One running cycle: its store, files and settings, and where it reports progress."""

    store: FeedbackStore
    cycle_id: int
    data: Path
    settings: CycleSettings
    served: str
    progress: Progress | None = None
    model: str = "starter"
    reply: ReplySettings = field(default_factory=ReplySettings)
    anchor: str = BASE_ADAPTER  # KL budget and the gate's KL count from this adapter
    probes: tuple[Probe, ...] = ()  # what the gate asks, whatever people voted on
    choosing: bool = False  # whether the server asks which replies to show side by side
    servers: Servers | None = None  # where vLLM is, if it decodes the replies
    rollouts: Rollouts | None = None  # what decodes them there
    seed: int = field(init=False)  # of everything random; of a resumed cycle, as when it began
    remarks: list[str] = field(default_factory=list)  # in words, beside the verdict's reasons
    curves: dict[str, dict[float, float]] = field(default_factory=dict)  # by fraction
    notes: dict[str, float] = field(default_factory=dict)  # more metrics for the report
    clock: Stopwatch = field(default_factory=Stopwatch)  # seconds of each stage
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)  # of the cycle's time
    sampled: float = SAMPLED  # share of the reward stage that samples the reference
    trained: float = TRAINED  # share that trains the reward model
    _stored_at: float = 0.0

    def __post_init__(self) -> None:
        """No two cycles use the same random numbers."""
        self.seed = self.settings.seed + self.cycle_id

    def shared(self) -> dict[str, Any]:
        """What another process needs to train with this one."""
        names = ("cycle_id", "settings", "served", "model", "reply", "anchor")
        return {name: getattr(self, name) for name in names}

    @property
    def start(self) -> str:
        """The adapter that the policy begins as."""
        return self.anchor if self.settings.policy.start == "anchor" else self.served

    @property
    def attached_anchor(self) -> str | None:
        """The name under which the anchor is attached; ``None`` is the bare base."""
        if self.anchor == BASE_ADAPTER:
            return None
        return "served" if self.anchor == self.served else "anchor"

    @property
    def attached_served(self) -> str | None:
        """The name under which the served policy is attached; ``None`` is the bare base."""
        return None if self.served == BASE_ADAPTER else "served"

    @property
    def directory(self) -> Path:
        """The cycle's own directory."""
        return self.data / "cycles" / f"{self.cycle_id:06d}"

    @property
    def models(self) -> Path:
        """Where converted models are kept; the server uses the same ones."""
        return self.data / "models"

    @property
    def key(self) -> bytes:
        """The key that signs adapters; each process reads it for itself, so nobody sends it."""
        return adapter_key(self.data)

    @property
    def checkpoints(self) -> Path:
        """The directory of the stages' checkpoints, which the next cycle resumes after a kill."""
        return self.directory / FOLDER

    def report(self, stage: str, fraction: float, metrics: dict[str, float] | None = None) -> None:
        """Write progress to the metrics file and, twice a second, the store; call `progress`."""
        if not first_process():
            return
        metrics = metrics or {}
        if metrics:
            line = {"stage": stage, "fraction": round(fraction, 4), **metrics}
            with (self.directory / METRICS).open("a") as out:
                out.write(json.dumps(line) + "\n")
        self.add_to_curves(fraction, metrics)
        if fraction in (0.0, 1.0) or time.monotonic() - self._stored_at > 0.5:
            self._stored_at = time.monotonic()
            before = sum(self.shares[s] for s in STAGES[: STAGES.index(stage)])
            done = min(1.0, before + self.shares[stage] * fraction)
            self.store.update_cycle(self.cycle_id, stage=stage, progress=round(done, 4))
        if self.progress:
            self.progress(stage, fraction, metrics)

    def add_to_curves(self, fraction: float, metrics: dict[str, float]) -> None:
        """Add a point to each of the curves; a resumed stage replaces its own points."""
        for name in CURVES:
            if name in metrics:
                self.curves.setdefault(name, {})[round(fraction, 4)] = metrics[name]

    def reporter(self, stage: str) -> Callable[[float, dict[str, float]], None]:
        """The progress callback of one stage."""
        return lambda fraction, metrics: self.report(stage, fraction, metrics)


@dataclass(frozen=True, slots=True)
class Trained:
    """The result of the training stages."""

    base: Base
    snapshot: Snapshot
    reward: RewardModel
    held_out_reward: LinearHeads
    reference: str | None
    accuracies: tuple[Accuracy, Accuracy]  # of the two, each on votes that it did not learn from
    checks: tuple[Check, ...]

    @property
    def votes_are_informative(self) -> bool:
        """Whether each reward model predicts the other's votes; if not, no policy is trained."""
        return all(check.passed for check in self.checks)


def train_stages(run: Run, snapshot: Snapshot, quantization: Quantization) -> Trained:
    """SFT, reward models and PPO; the result is the same in every process."""
    base, settings = _load(run, quantization), run.settings
    snapshot, counts = fit_snapshot(snapshot, base.chat, needed=run.settings.gate.min_prompts)
    run.notes |= counts
    snapshot = _forget(run, base, snapshot)
    with run.clock.timed("sft"):
        reference = _sft(run, base, snapshot)
    with run.clock.timed("reward"):
        reward, held_out_reward = _train_reward_models(run, base, snapshot, reference)
    z = settings.gate.confidence_z
    with out_of_memory_in_one_line("reply.prompt_tokens or reply.tokens"):
        # Each reward model predicts votes that it has not learned from: those of the other one,
        # and the first also those that its members left out, since held-out votes are few. What
        # began as the last cycle's reward model has learned from all training votes before.
        on_questions = accuracy(reward.score, snapshot.held_out_votes, z=z)
        left_out = () if settings.reward.start == "last" else snapshot.train_votes
        votes = [*snapshot.held_out_votes, *left_out]
        known = reward.unseen([vote.prompt for vote in votes]).any(0)  # (N,)
        unseen = accuracy(reward.unseen_score, list(compress(votes, known)), z=z)
        on_training = accuracy(held_out_reward.score, snapshot.train_votes, z=z)
        run.notes |= measure_votes(
            reward.score,
            snapshot.held_out_rater_votes,
            snapshot.held_out_raters,
            on_questions=on_questions,
            z=z,
        )
    if on_questions.votes:
        run.notes["reward/held_out_accuracy"] = round(on_questions.value, 4)
    run.report("reward", 1.0)
    # Rounding differs between processes, but all must take the same branch below.
    accuracies = broadcast((unseen, on_training))
    checks = check_votes(*accuracies, settings.gate)
    trained = Trained(base, snapshot, reward, held_out_reward, reference, accuracies, checks)
    if trained.votes_are_informative:
        with run.clock.timed("policy"):
            _ppo(run, base, snapshot, reward, reference)
    return trained


def _load(run: Run, quantization: Quantization) -> Base:
    """The base with the policy that is trained, the served one, and the anchor, each if it is one.

    The anchor is attached under a name of its own if it is neither the base nor the served policy.
    """
    run.rollouts = _rollouts(run)
    base = load_base(run.model, quantization=quantization, reply=run.reply, cache=run.models)
    base.elsewhere = run.rollouts
    torch.set_num_threads(run.settings.threads)
    adapters = run.data / "adapters"
    if run.start == BASE_ADAPTER:
        base.attach("policy", lora=run.settings.lora, trainable=True, seed=run.seed)
    else:
        base.attach("policy", adapters / run.start, trainable=True, key=run.key)
    if run.served != BASE_ADAPTER:
        base.attach("served", adapters / run.served, key=run.key)
    if run.attached_anchor == "anchor":
        base.attach("anchor", adapters / run.anchor, key=run.key)
    return base


def _rollouts(run: Run) -> Rollouts | None:
    """What decodes the replies elsewhere; None if this process does."""
    if run.settings.policy.generation == "local":
        return None
    assert run.servers is not None, "the cycle was refused before it began"
    faults = run.servers.faults(window=run.reply.window)
    if all(faults.values()):  # sooner than SFT's end, when the first reply is needed
        raise ReplicaLostError(
            f"no server of vLLM can write the cycle's replies: {'; '.join(faults.values())}; "
            "mend one, or set cycle.policy.generation to local"
        )
    return Rollouts(
        run.servers,
        run.checkpoints / f"rollouts-{rank()}",
        owner=hashlib.sha256(b"rollouts" + run.key).hexdigest()[:8],
        cycle=run.cycle_id,
        part=rank(),
    )


def _forget(run: Run, base: Base, snapshot: Snapshot) -> Snapshot:
    """The snapshot as it counts for people's present tastes.

    Training votes alone say whether tastes have changed, so that held-out votes stay unseen.
    """
    wanted, why = run.settings.data.half_life_votes, "cycle.data.half_life_votes"
    half_life = math.inf if wanted == 0 else float(wanted or 0)
    if wanted is None:
        found = best_half_life(base, snapshot.train_votes, new=snapshot.new)
        half_life = broadcast(found)  # rounding differs between processes
        why = "the newest are foretold clearly better so, as if tastes had changed"
    if math.isinf(half_life):
        return snapshot
    run.notes["data/half_life"] = half_life
    run.remarks.append(f"a vote counts half after {half_life:.0f} newer ones: {why}")
    present = max(half_life, snapshot.new)

    def of_present(votes: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
        """What a reward model of present tastes can be tested on."""
        return tuple(c for c in votes if c.age < present)

    return replace(
        snapshot,
        train=faded(snapshot.train, half_life),
        held_out=faded(snapshot.held_out, half_life),
        train_votes=of_present(snapshot.train_votes),
        held_out_votes=of_present(snapshot.held_out_votes),
    )


def _sft(run: Run, base: Base, snapshot: Snapshot) -> str | None:
    """SFT, if there are enough demonstrations; returns the name of PPO's frozen reference."""
    settings = run.settings.sft
    run.report("sft", 0.0)
    have, needed = len(snapshot.demonstrations), settings.min_demonstrations
    counted = {"sft": 0.0, "demonstrations": have, "demonstrations_needed": needed}
    run.notes |= counted
    if settings.enabled and have >= needed:
        last_reward = _last_reward(run, base)
        prompts = without(snapshot.prompts, [d.prompt for d in snapshot.demonstrations])
        done = train_sft(
            base,
            snapshot.demonstrations,
            adapter="policy",
            settings=settings,
            score=last_reward.score if last_reward and prompts else None,
            prompts=prompts,
            progress=run.reporter("sft"),
            seed=run.seed,
            checkpoints=run.checkpoints,
        )
        run.notes |= {"sft": 1.0} | {k: v for k, v in done.items() if k.startswith("sft/")}
        if last_reward is not None:
            last_reward.drop()
    else:
        run.report("sft", 1.0, counted)
        if run.start == BASE_ADAPTER:
            return None  # the bare base
    base.copy_adapter("policy", REFERENCE)  # the name that PPO looks for, so it copies nothing
    return REFERENCE


def _last_reward(run: Run, base: Base) -> RewardModel | None:
    """The reward model that trained the served policy; its scores choose SFT's best pass."""
    number = run.served.rpartition("-")[2]
    path = run.data / "adapters" / f"reward-{number}"
    return RewardModel.load(base, path, key=run.key) if path.is_dir() else None


def _train_reward_models(
    run: Run, base: Base, snapshot: Snapshot, reference: str | None
) -> tuple[RewardModel, LinearHeads]:
    """The reward model for PPO, and the held-out reward model for the gate.

    The first learns from training votes, the second from held-out votes alone. One is not enough: a
    policy always wins by the score that it was optimised against. For the same reason the second
    looks through the bare base, which no vote has changed. Its members are folds: each is fitted
    without its share of the questions and scores replies to these, and how they differ says how
    uncertain the win rate is (docs/decisions/0025-*.md).
    """
    settings, seed = run.settings.reward, run.seed
    run.report("reward", 0.0)
    with out_of_memory_in_one_line("reward.reference_samples"):
        samples = _samples(base, reference, snapshot.prompts, settings.reference_samples, seed=seed)
    run.report("reward", run.sampled)
    last = _last_reward(run, base) if settings.start == "last" else None
    reward = train_reward(
        base,
        snapshot.train,
        settings=settings,
        name="reward",
        lora=run.settings.lora,
        start=last or (None if settings.start == "base" else reference),
        samples=samples,
        progress=lambda f, m: run.report("reward", run.sampled + run.trained * f, m),
        seed=seed,
        unpaired=snapshot.train_thumbs,
        checkpoints=run.checkpoints,
    )
    if last is not None:
        last.drop()
    with out_of_memory_in_one_line("reply.prompt_tokens or reply.tokens"):
        held_out_reward = fit_heads(base, snapshot.held_out, members=run.settings.gate.members)
    run.report("reward", (1 + run.sampled + run.trained) / 2)
    run.notes |= _reward_notes(base, snapshot, reward)
    return reward, held_out_reward


def _reward_notes(base: Base, snapshot: Snapshot, reward: RewardModel) -> dict[str, float]:
    """What the report says of the reward model, beside how well it predicts votes."""
    notes = {
        "reward_temperature": reward.temperature,
        "reward_ece": calibration_error(reward.preference, snapshot.held_out_votes),
        "reward/shared_layers": float(reward.trunk.depth),
    }
    notes |= measure_habits(base.chat, reward.score, snapshot.train_votes, snapshot.held_out_votes)
    if snapshot.demonstrations:
        shown = [(d.prompt, d.response) for d in snapshot.demonstrations]
        scores = scores_of(reward.score, *zip(*shown, strict=True))
        notes["reward/demonstrations"] = scores.mean().item()
    return {name: round(value, 4) for name, value in notes.items()}


def _samples(
    base: Base, reference: str | None, prompts: Sequence[Prompt], n: int, *, seed: int
) -> Samples:
    """Replies of PPO's reference to training prompts, the same in every process."""
    asked = random.Random(seed).sample(prompts, min(n, len(prompts)))
    asked = [*islice(cycle(asked), n)]  # few prompts are asked several times
    replies = base.respond(asked, adapter=reference, seed=seed)
    give_back()
    # rounding differs between processes, and may change a reply
    return broadcast(Samples(tuple(asked), tuple(reply.text for reply in replies)))


def _ppo(
    run: Run, base: Base, snapshot: Snapshot, reward: RewardModel, reference: str | None
) -> None:
    """PPO on new prompts, older ones and such that nobody voted on; says if the budget ended it."""
    run.report("policy", 0.0)
    settings, older = run.settings, snapshot.older_prompts
    recent = without(snapshot.prompts, older)
    done = train_policy(
        base,
        recent or older,
        reward.score,
        adapter="policy",
        reference=reference,
        settings=settings.policy,
        anchor=run.attached_anchor,
        demonstrations=snapshot.demonstrations,
        texts=_pretraining_texts(settings, run.model) if settings.policy.ptx_coef else (),
        older_prompts=older if recent else (),
        unvoted_prompts=snapshot.unvoted_prompts,
        progress=run.reporter("policy"),
        seed=run.seed,
        checkpoints=run.checkpoints,
    )
    noted = ("iterations", "kl_stopped", "sampling/mismatch_kl")
    run.notes |= {name: done[name] for name in noted if name in done}
    if done["kl_stopped"]:
        budget = settings.policy.kl_limit(run.reply.tokens)
        ended = f"after {done['iterations']:.0f} of {settings.policy.iterations} iterations"
        run.remarks.append(budget_spent(budget, ended, served=run.served, anchor=run.anchor))


def _pretraining_texts(settings: CycleSettings, model: str) -> list[str]:
    """Text for the ptx loss: the operator's file, or the starter's own documents.

    Raises:
        NotEnoughDataError: The file cannot be read.
    """
    if settings.pretraining_file is not None:
        try:
            lines = Path(settings.pretraining_file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise NotEnoughDataError(
                f"pretraining_file {settings.pretraining_file} cannot be read: {exc}"
            ) from exc
        return [line for line in lines if line.strip()]
    if model == "starter":
        from rlhf_core.worlds.starter.corpus import skill_texts

        return skill_texts(STARTER_TEXTS, settings.seed)
    return []


def compare_with_served(
    run: Run,
    trained: Trained,
    prompts: Sequence[Prompt],
    progress: Callable[[float], None],
    *,
    level: float = 0.05,
) -> Evaluation:
    """Compare both policies' replies by the reward model that neither was trained on."""
    wanted = run.settings.gate.prompts
    # few prompts get several replies each; replies to one prompt count as one cluster
    repeats = -(-wanted // len(prompts))
    return evaluate(
        trained.base,
        ([*prompts] * repeats)[: max(wanted, len(prompts))],
        trained.held_out_reward,
        candidate="policy",
        served=run.attached_served,
        reference=trained.reference,
        anchor=run.attached_anchor,
        settings=run.settings.gate,
        level=level,
        votes=(*trained.snapshot.train_votes, *trained.snapshot.held_out_votes),
        progress=progress,
        seed=run.seed,
    )
