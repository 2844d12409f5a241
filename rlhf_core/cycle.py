"""One cycle: snapshot -> SFT -> reward model -> PPO -> evaluate -> publish or reject.

A process of its own, and the only module here that knows the store. Invariants: votes on held-out
prompts train nothing but the gate's judge; the served adapter changes only in the last step, by one
row, after the new adapter is complete on disk; whatever fails before that leaves serving as it was.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

import feedback_store
from feedback_store import FeedbackStore
from rlhf_core.adapters import publish_adapter
from rlhf_core.base_model import Base, Quantization, load_base
from rlhf_core.chat_format import fit_prompt
from rlhf_core.config import CycleSettings
from rlhf_core.errors import NotEnoughDataError
from rlhf_core.evaluation import Evaluation, accuracy, evaluate
from rlhf_core.gate import Verdict, check_policy, check_votes, decide
from rlhf_core.records import Comparison, Demonstration, Prompt
from rlhf_core.report import flat_metrics, write_report
from rlhf_core.reward_model import RewardModel
from rlhf_core.train_policy import train_policy
from rlhf_core.train_reward import train_reward
from rlhf_core.train_sft import train_sft

BASE_POLICY = "policy-000000"  # the base without an adapter
STAGES = ("snapshot", "sft", "reward", "policy", "evaluate", "publish")
_SHARE = dict(zip(STAGES, (0.02, 0.13, 0.2, 0.5, 0.13, 0.02), strict=True))  # of the whole time
SMALL_MODEL_PARAMETERS = 5_000_000  # below this, one thread is faster than two

Progress = Callable[[str, float, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The evidence of one cycle, fixed at its start."""

    ids: tuple[str, ...]
    train: tuple[Comparison, ...]
    held_out: tuple[Comparison, ...]
    train_votes: tuple[Comparison, ...]  # without edits: what raters said of two given replies
    held_out_votes: tuple[Comparison, ...]
    demonstrations: tuple[Demonstration, ...]
    prompts: tuple[Prompt, ...]  # training prompts, each once
    held_out_prompts: tuple[Prompt, ...]


@dataclass(slots=True)
class Run:
    """One running cycle: where its files are and whom it tells how far it is."""

    store: FeedbackStore
    cycle_id: int
    data: Path
    settings: CycleSettings
    served: str
    tell: Progress | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)  # what was done, for the report
    _told: float = 0.0

    @property
    def directory(self) -> Path:
        """The cycle's own directory."""
        return self.data / "cycles" / f"{self.cycle_id:06d}"

    def report(self, stage: str, fraction: float, metrics: dict[str, float] | None = None) -> None:
        """Note progress: in the metrics file, for the caller, and twice a second in the store."""
        metrics = metrics or {}
        before = sum(_SHARE[s] for s in STAGES[: STAGES.index(stage)])
        if metrics:
            with (self.directory / "metrics.jsonl").open("a") as out:
                out.write(
                    json.dumps({"stage": stage, "fraction": round(fraction, 4), **metrics}) + "\n"
                )
        for name in ("objective/kl", "objective/score"):
            if name in metrics:
                self.curves.setdefault(name, []).append(metrics[name])
        if fraction in (0.0, 1.0) or time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            done = before + _SHARE[stage] * fraction
            self.store.update_cycle(self.cycle_id, stage=stage, progress=round(done, 4))
        if self.tell:
            self.tell(stage, fraction, metrics)

    def reporter(self, stage: str) -> Callable[[float, dict[str, float]], None]:
        """The progress callback of one stage."""
        return lambda fraction, metrics: self.report(stage, fraction, metrics)


def run_cycle(
    data: Path,
    settings: CycleSettings,
    *,
    model: str = "starter",
    quantization: Quantization = "nf4",
    progress: Progress | None = None,
    allow_old_sqlite: bool = False,
) -> feedback_store.Cycle:
    """Run one cycle on a data directory and return its row, whose state says how it ended.

    Args:
        data: The service's data directory; a running server follows what is published in it.
        settings: Resolved settings; written beside the results.
        model: The base, as `load_base` takes it.
        quantization: How the base's linear layers are stored.
        progress: Called as `(stage, fraction, metrics)`.
        allow_old_sqlite: Open the store on a SQLite with the WAL-reset bug all the same.

    Raises:
        CycleInProgressError: Another cycle is running on this data directory.
        RLHFError: A stage failed; the row says so too, and serving is as it was.
    """
    with FeedbackStore(data / "feedback.db", allow_old_sqlite=allow_old_sqlite) as store:
        config = settings.model_dump() | {"model": model, "quantization": quantization}
        row = store.start_cycle(config, pid=os.getpid())
        run = Run(store, row.id, data, settings, store.serving().adapter, progress)
        try:
            run.directory.mkdir(parents=True, exist_ok=True)
            (run.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
            _run(run, model, quantization)
        except NotEnoughDataError as exc:
            store.finish_cycle(row.id, state="refused", reasons=(str(exc),))
        except BaseException as exc:
            reason = str(exc).strip() or type(exc).__name__
            store.finish_cycle(row.id, state="failed", reasons=(reason,))
            raise
        return store.cycle(row.id)


def _run(run: Run, model: str, quantization: Quantization) -> None:
    started, settings = time.monotonic(), run.settings
    snapshot = take_snapshot(run.store, settings)
    run.report("snapshot", 1.0)
    run.store.use_comparisons(run.cycle_id, snapshot.ids)
    base = _load(run, model, quantization)
    snapshot = fit_prompts(snapshot, base, settings.policy.max_prompt_tokens)

    reference = _imitate(run, base, snapshot)
    reward, judge = _learn_to_judge(run, base, snapshot)
    found = (
        accuracy(reward.score, snapshot.held_out_votes, z=settings.gate.confidence_z),
        accuracy(judge.score, snapshot.train_votes, z=settings.gate.confidence_z),
    )
    checks = check_votes(*found)
    evaluation: Evaluation | None = None
    if all(c.passed for c in checks):  # else no policy is worth training on them
        _optimise(run, base, snapshot, reward, reference)
        evaluation = _evaluate(run, base, snapshot, judge, reference)
        checks += check_policy(evaluation, settings.gate)
    verdict = decide(checks)

    run.report("publish", 0.0)
    metrics = flat_metrics(*found, evaluation) | run.notes
    metrics["seconds"] = round(time.monotonic() - started, 1)
    write_report(
        run.directory / "report.json",
        verdict,
        served=run.served,
        metrics=metrics,
        evaluation=evaluation,
        curves=run.curves,
    )
    adapter = _publish(run, base, reward, metrics) if evaluation else None
    _finish(run, verdict, metrics, adapter)


def take_snapshot(store: FeedbackStore, settings: CycleSettings) -> Snapshot:
    """Derive comparisons from all events, weigh their raters, and fix what this cycle will use.

    Raises:
        NotEnoughDataError: Too few usable comparisons, or none that is new.
    """
    store.assess_raters(by="cycle")
    rows = store.comparisons()
    decided = [c for c in rows if c.label != "tie"]
    if len(decided) < settings.min_comparisons:
        raise NotEnoughDataError(
            f"too little evidence: {len(decided)} decided comparisons, {settings.min_comparisons} "
            f"are needed; collect more votes or lower cycle.min_comparisons"
        )
    new = len(store.comparisons(unused=True))
    if new < settings.min_new_comparisons:
        raise NotEnoughDataError(
            f"nothing new: {new} comparisons that no cycle has used, "
            f"{settings.min_new_comparisons} are needed; collect more votes"
        )
    train = [c for c in rows if c.split == "train"]
    held_out = [c for c in rows if c.split == "held_out"]
    different = len({json.dumps(c.prompt) for c in held_out if c.label != "tie"})
    if different < settings.gate.min_prompts:
        raise NotEnoughDataError(
            f"too little evidence: votes on {different} held-out prompts, "
            f"{settings.gate.min_prompts} are needed; collect votes on more different questions"
        )
    demonstrations = [
        Demonstration(d.prompt, d.content) for d in store.demonstrations(split="train")
    ]
    return Snapshot(
        ids=tuple(c.id for c in rows),
        train=tuple(map(_plain, train)),
        held_out=tuple(map(_plain, held_out)),
        train_votes=tuple(_plain(c) for c in train if c.source != "edit"),
        held_out_votes=tuple(_plain(c) for c in held_out if c.source != "edit"),
        demonstrations=tuple(demonstrations),
        prompts=_unique([*(c.prompt for c in train), *(d.prompt for d in demonstrations)]),
        held_out_prompts=_unique([c.prompt for c in held_out]),
    )


def fit_prompts(snapshot: Snapshot, base: Base, max_tokens: int) -> Snapshot:
    """The snapshot with prompts as the server would show them: oldest turns left out if too long.

    A prompt whose last message alone is too long is left out; rollouts on it would fit nowhere.
    """

    def fitted(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        cut = (fit_prompt(base.tokenizer, prompt, max_tokens) for prompt in prompts)
        return _unique([prompt for prompt in cut if prompt is not None])

    held_out = fitted(snapshot.held_out_prompts)
    if not held_out:
        raise NotEnoughDataError("0 held-out prompts to compare policies on; collect more votes")
    return replace(snapshot, prompts=fitted(snapshot.prompts), held_out_prompts=held_out)


def _load(run: Run, model: str, quantization: Quantization) -> Base:
    """The base with the served policy on it twice: `served` frozen, `policy` to be trained."""
    base = load_base(model, quantization=quantization, training=True)
    if base.device.type == "cpu" and base.model.num_parameters() < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)
    torch.manual_seed(run.settings.seed)
    if run.served == BASE_POLICY:
        base.attach("policy", lora=run.settings.lora, trainable=True)
    else:
        path = run.data / "adapters" / run.served
        base.attach("policy", path, trainable=True)
        base.attach("served", path)
    return base


def _imitate(run: Run, base: Base, snapshot: Snapshot) -> str | None:
    """SFT, then freeze the result as PPO's reference; returns the reference's name."""
    settings = run.settings.sft
    run.report("sft", 0.0)
    run.notes |= {"demonstrations": len(snapshot.demonstrations), "sft": 0.0}
    if settings.enabled and len(snapshot.demonstrations) >= settings.min_demonstrations:
        train_sft(
            base,
            snapshot.demonstrations,
            adapter="policy",
            settings=settings,
            progress=run.reporter("sft"),
            seed=run.settings.seed,
        )
        run.notes["sft"] = 1.0
    elif run.served == BASE_POLICY:
        return None
    base.copy_adapter("policy", "reference")
    return "reference"


def _learn_to_judge(run: Run, base: Base, snapshot: Snapshot) -> tuple[RewardModel, RewardModel]:
    """The reward model from training votes, and the gate's judge from held-out votes alone."""
    settings, seed = run.settings.reward, run.settings.seed
    run.report("reward", 0.0)
    reward = train_reward(
        base,
        snapshot.train,
        settings=settings,
        name="reward",
        lora=run.settings.lora,
        progress=lambda f, m: run.report("reward", 0.75 * f, m),
        seed=seed,
    )
    judge = train_reward(
        base,
        snapshot.held_out,
        settings=settings,
        name="judge",
        lora=run.settings.lora,
        progress=lambda f, _: run.report("reward", 0.75 + 0.25 * f),
        seed=seed + 1,
    )
    return reward, judge


def _optimise(
    run: Run, base: Base, snapshot: Snapshot, reward: RewardModel, reference: str | None
) -> None:
    run.report("policy", 0.0)
    done = train_policy(
        base,
        snapshot.prompts,
        reward.score,
        adapter="policy",
        reference=reference,
        settings=run.settings.policy,
        demonstrations=snapshot.demonstrations,
        progress=run.reporter("policy"),
        seed=run.settings.seed,
    )
    run.notes |= {name: done[name] for name in ("iterations", "kl_stopped")}


def _evaluate(
    run: Run, base: Base, snapshot: Snapshot, judge: RewardModel, reference: str | None
) -> Evaluation:
    run.report("evaluate", 0.0)
    wanted, prompts = run.settings.gate.prompts, snapshot.held_out_prompts
    repeats = -(-wanted // len(prompts))  # several replies to each, counted as one cluster
    return evaluate(
        base,
        (prompts * repeats)[: max(wanted, len(prompts))],
        judge.score,
        candidate="policy",
        served=None if run.served == BASE_POLICY else "served",
        reference=reference,
        settings=run.settings.gate,
        seed=run.settings.seed,
    )


def _publish(run: Run, base: Base, reward: RewardModel, metrics: dict[str, float]) -> str:
    """Write the reward model and the policy as adapters, then their rows; returns the policy's.

    The rows come after the files, so that no row ever names what is not complete on disk.
    """
    number = run.store.next_adapter_number()
    kinds: tuple[Literal["reward", "policy"], ...] = ("reward", "policy")
    for kind in kinds:
        name, staging = f"{kind}-{number:06d}", run.directory / f"staging-{kind}"
        if kind == "policy":
            base.save("policy", staging)
        else:
            reward.save(staging)
        publish_adapter(
            staging,
            run.data / "adapters" / name,
            kind=kind,
            base=base.fingerprint,
            parent=run.served,
            extra={"cycle": run.cycle_id},
        )
        run.store.register_adapter(
            name, kind=kind, parent=run.served, cycle_id=run.cycle_id, metrics=metrics
        )
    return name


def _finish(run: Run, verdict: Verdict, metrics: dict[str, float], adapter: str | None) -> None:
    """End the cycle's row; a promotion serves the adapter in the same transaction.

    The verdict is about the policy that was served when the cycle began. If an operator serves
    another one meanwhile, nothing was shown against that one, and the cycle is rejected.
    """
    if verdict.promote:
        try:
            run.store.finish_cycle(
                run.cycle_id,
                state="promoted",
                metrics=metrics,
                adapter=adapter,
                serve=True,
                expected_serving=run.served,
            )
            return
        except feedback_store.ConflictError as exc:
            reasons: tuple[str, ...] = (f"{exc}; run another cycle",)
    else:
        reasons = verdict.reasons
    if adapter is not None:
        run.store.set_adapter_state(adapter, "rejected")
    run.store.finish_cycle(
        run.cycle_id, state="rejected", reasons=reasons, metrics=metrics, adapter=adapter
    )


def _plain(comparison: feedback_store.Comparison) -> Comparison:
    c = comparison
    return Comparison(c.prompt, c.response_a, c.response_b, c.label, c.weight)


def _unique(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once, in order of first appearance."""
    return tuple({json.dumps(p): p for p in prompts}.values())
