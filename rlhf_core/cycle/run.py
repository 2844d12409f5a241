"""One cycle: snapshot -> SFT -> reward models -> PPO -> evaluate -> publish or reject.

A cycle is a process of its own, and the only part of the core that knows the store. Invariants:

- Votes on held-out prompts train only the held-out reward model. Votes of held-out raters train
  nothing.
- The served adapter changes only in the last step, by one row, after the new adapter is complete
  on disk. A cycle that fails before that leaves serving as it was.
- The next cycle resumes a cycle that died, and ends as that one would have ended.
- A cycle that was cancelled, or replaced by another while it slept, changes nothing more: the store
  refuses what it writes, and it deletes no other cycle's checkpoints.

Started in several processes, the first runs the cycle and the others help it to train. What a
cycle learns from is chosen in `snapshot.py`; the stages are in `stages.py`.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import feedback_store
from feedback_store import FeedbackStore
from rlhf_core.config import CycleSettings, ReplySettings
from rlhf_core.cycle.alarms import WINDOW, measured_alarms, raise_alarms_safely
from rlhf_core.cycle.cost import plan_cycle
from rlhf_core.cycle.evidence import Evidence, note_programs
from rlhf_core.cycle.probing import probes_for
from rlhf_core.cycle.report import curve_metrics, flat_metrics, write_report
from rlhf_core.cycle.resume import (
    config_of,
    delete_checkpoints,
    left_by_failed,
    metrics_of,
    save_evidence,
    take_over,
)
from rlhf_core.cycle.signing import signing_key
from rlhf_core.cycle.snapshot import Snapshot, read_snapshot, take_snapshot
from rlhf_core.cycle.stages import Progress, Run, Trained, compare_with_served, train_stages
from rlhf_core.cycle.whose.card import CardFacts, card_facts, model_card
from rlhf_core.errors import (
    CheckpointError,
    DivergenceError,
    InvalidInputError,
    NotEnoughDataError,
    RLHFError,
)
from rlhf_core.gate.checks import Verdict, check_policy, check_probes, decide
from rlhf_core.gate.evaluation import Evaluation, disagreement
from rlhf_core.gate.held_out_raters import measure_prompts
from rlhf_core.gate.probes.asking import ProbeCounts, ask_probes, probe_metrics
from rlhf_core.gate.win_rate import level_of
from rlhf_core.model.adapter_files import CARD
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.model.conversions import loadable
from rlhf_core.model.facts import peak_memory
from rlhf_core.model.loading import Quantization
from rlhf_core.model.sources import resolve
from rlhf_core.reward.acquisition import fit_uncertainty
from rlhf_core.training.distributed import broadcast
from rlhf_core.training.memory import map_large_blocks, out_of_memory_in_one_line
from rlhf_core.training.vllm.replica import Servers

MOST_TESTS = 10_000  # cycles that are looked at; a later test has a level of nearly nothing
SNAPSHOTS = 3  # that are tried, if each time somebody withdraws a vote of it


def run_cycle(  # noqa: PLR0913 - everything but the first two by name
    data: Path,
    settings: CycleSettings,
    *,
    reply: ReplySettings | None = None,
    model: str = "starter",
    quantization: Quantization = "nf4",
    progress: Progress | None = None,
    choosing: bool = False,
    servers: Servers | None = None,
    allow_old_sqlite: bool = False,
) -> feedback_store.Cycle:
    """Run one cycle on a data directory and return its row, whose state says how it ended.

    If the last cycle died, and settings and served policy are the same, this one resumes it.

    Args:
        data: The service's data directory; a running server follows what is published in it.
        settings: Resolved settings; written beside the results.
        reply: The contract of lengths and sampling, as replies are served.
        model: The base, as `load_base` takes it.
        quantization: How the base's linear layers are stored.
        progress: Called as `(stage, fraction, metrics)`.
        choosing: Also write what a server needs that shows the replies of which it is most
            uncertain which one people prefer.
        servers: Where vLLM is, if `settings.policy.generation` says that it decodes.
        allow_old_sqlite: Open the store even if SQLite has the WAL-reset bug.

    Raises:
        InvalidInputError: Options do not go together, or the file of probes is none; nothing was
            begun.
        CycleInProgressError: Another cycle is running on this data directory.
        CycleEndedError: Another cycle has replaced this one, whose process slept.
        RLHFError: A stage failed; the row says so too, and serving is as it was.
    """
    settings.require_fit()
    if settings.policy.generation == "vllm" and servers is None:
        raise InvalidInputError(
            "cycle.policy.generation is vllm, and there is no server; name some in engine.vllm_urls"
        )
    probes = probes_for(model, settings.gate)
    map_large_blocks()
    with FeedbackStore(data / "feedback.db", allow_old_sqlite=allow_old_sqlite) as store:
        note_programs(store, settings.data)
        reply = reply or ReplySettings()
        given = {"model": model, "quantization": quantization, "anchor": store.anchor()}
        config = config_of(settings, reply, **given)
        row = store.start_cycle(config, pid=os.getpid())
        served, anchor = store.serving().adapter, str(given["anchor"])
        run = Run(
            store,
            row.id,
            data,
            settings,
            served,
            progress=progress,
            model=model,
            reply=reply,
            anchor=anchor,
            probes=probes,
            choosing=choosing,
            servers=servers,
        )
        try:
            _run_to_an_end(run, config, quantization)
        except feedback_store.CycleEndedError:
            if store.cycle(row.id).state != "cancelled":
                raise  # another cycle has replaced it, and may go on with its checkpoints
        finally:
            if run.rollouts is not None:
                run.rollouts.close()
            raise_alarms_safely(store, settings.alarms)
        _delete_checkpoints(run)
        return store.cycle(row.id)


def _run_to_an_end(run: Run, config: dict[str, Any], quantization: Quantization) -> None:
    """All of a cycle; its row says how it ended.

    Raises:
        CycleEndedError: Somebody else has ended it: it was cancelled, or another one replaced it.
    """
    try:
        signing_key(run.store, run.data)  # adapters of an earlier version
        run.directory.mkdir(parents=True, exist_ok=True, mode=0o700)  # reports quote people
        (run.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        snapshot = _resume_or_begin(run, config)
        _train_and_decide(run, snapshot, quantization)
    except NotEnoughDataError as exc:
        began = run.store.cycle(run.cycle_id).started_at
        reasons = (str(exc), *run.store.left_out(since=began).lines())
        run.store.finish_cycle(run.cycle_id, state="refused", reasons=reasons)
    except feedback_store.CycleEndedError:
        raise
    except BaseException as exc:
        reason = str(exc).strip() or type(exc).__name__
        run.store.finish_cycle(run.cycle_id, state="failed", reasons=(reason,))
        if _would_fail_again(exc, resumed="resumed_cycle" in run.notes):
            _delete_checkpoints(run)
        raise  # else the checkpoints stay, and the next cycle resumes this one


def _delete_checkpoints(run: Run, *, keep: Path | None = None) -> None:
    """Delete the checkpoints of this cycle and of all before it."""
    delete_checkpoints(run.data / "cycles", keep=keep, up_to=run.cycle_id)


def _resume_or_begin(run: Run, config: dict[str, Any]) -> Snapshot:
    """The snapshot of a failed cycle that this one resumes, or else a new one."""
    snapshot = _resume(run, config)
    run.notes["seed"] = float(run.seed)
    _delete_checkpoints(run, keep=run.directory)  # no later cycle can resume the others
    if snapshot is None:
        return _begin(run, config)
    try:
        _note_use(run, snapshot)
    except feedback_store.UnknownRecordError:  # withdrawn in this moment: its checkpoints are void
        _delete_checkpoints(run)
        del run.notes["resumed_cycle"]
        return _begin(run, config)
    # The report's curves begin where those of the failed cycle began.
    for line in metrics_of(run.directory):
        run.add_to_curves(line["fraction"], line)
    return snapshot


def _begin(run: Run, config: dict[str, Any]) -> Snapshot:
    """A new snapshot; it is taken again if people withdrew a vote of it before it was noted."""
    for left in reversed(range(SNAPSHOTS)):
        snapshot = take_snapshot(run.store, run.settings)
        try:
            _note_use(run, snapshot)
            break
        except feedback_store.UnknownRecordError:
            if not left:
                raise
    save_evidence(
        run.checkpoints,
        snapshot.evidence,
        snapshot,
        config=config,
        served=run.served,
        seed=run.seed,
    )
    return snapshot


def _note_use(run: Run, snapshot: Snapshot) -> None:
    """Write down what this cycle learns from, before it does.

    A vote that is withdrawn from now on is kept, marked as withdrawn, so that `forget` knows later
    from whom the adapters have learnt.
    """
    evidence = snapshot.evidence
    run.store.use_comparisons(
        run.cycle_id, snapshot.ids, prompts=evidence.unvoted, seen=evidence.seen
    )


def _resume(run: Run, config: dict[str, Any]) -> Snapshot | None:
    """Take over the snapshot and checkpoints of the last failed cycle, if they still fit."""
    earlier = (cycle for cycle in run.store.cycles() if cycle.id < run.cycle_id)
    last = left_by_failed(earlier, run.data / "cycles")
    if last is None:
        return None

    def read(found: Mapping[str, Any]) -> Snapshot:
        run.store.assess_raters(by="cycle")  # some may be in quarantine by now
        return read_snapshot(run.store, Evidence(**found), run.settings)

    failed = run.data / "cycles" / f"{last:06d}"
    found = take_over(failed, run.directory, read, config=config, served=run.served)
    if found is None:
        return None
    snapshot, run.seed = found
    run.notes["resumed_cycle"] = float(last)
    return snapshot


def _train_and_decide(run: Run, snapshot: Snapshot, quantization: Quantization) -> None:
    """From the snapshot to the end of the cycle: train, evaluate, decide, publish, finish."""
    started = time.monotonic()
    _choose_step(run, snapshot)
    path = loadable(resolve(run.model, run.models), run.models)
    planned = plan_cycle(
        path, snapshot, run.settings, run.reply, quantization, probes=len(run.probes)
    )
    if planned is not None:
        run.settings, run.shares = planned.settings, planned.estimate.shares
        run.sampled, run.trained = planned.estimate.sampled, planned.estimate.trained
        run.notes |= {
            "planned/hours": planned.estimate.hours,
            "planned/memory_gb": planned.estimate.memory / 1e9,
            "planned/halvings": float(planned.halvings),
        }
    run.store.update_cycle(run.cycle_id, metrics=run.notes)  # so that others can tell what is left
    run.report("snapshot", 1.0)
    broadcast((run.shared(), run.seed, snapshot, quantization))  # to `help_cycle`

    trained = train_stages(run, snapshot, quantization)
    with out_of_memory_in_one_line("reply.prompt_tokens or reply.tokens"):
        differing = disagreement(trained.reward, trained.snapshot.held_out_votes)
    run.notes |= {} if differing is None else {"reward/disagreement": round(differing, 4)}
    checks, evaluation = [*trained.checks], None
    probed: dict[str, ProbeCounts] = {}
    if trained.votes_are_informative:  # else no candidate was trained
        test = _test_number(run.store)
        level = level_of(test, run.settings.gate.error_rate)
        run.notes |= {"gate/test": float(test), "gate/level": round(level, 6)}
        evaluation, probed = _evaluate(run, trained, level)
        run.notes["gate/kl_limit"] = run.settings.gate.kl_limit(evaluation.tokens)
        of_votes = check_policy(evaluation, run.settings.gate)
        liked = all(check.passed for check in of_votes if check.name == "win_rate_low")
        checks += [*of_votes, *check_probes(probed, run.settings.gate, liked=liked)]
    verdict = decide(checks)

    run.report("publish", 0.0)
    metrics = flat_metrics(*trained.accuracies, evaluation) | curve_metrics(run.curves) | run.notes
    metrics |= {f"data/comparisons_of/{kind}": float(n) for kind, n in snapshot.kinds.items()}
    metrics |= {
        "data/largest_rater_share": round(snapshot.largest_rater_share, 4),
        "data/votes_left_out": float(run.store.votes_left_out()),
    }
    metrics |= {f"seconds/{stage}": round(s, 1) for stage, s in run.clock.seconds.items()}
    metrics["seconds"] = round(time.monotonic() - started, 1)
    metrics["memory_gb"] = round(peak_memory() / 1e9, 2)
    earlier = [c.metrics for c in run.store.cycles(limit=WINDOW) if c.id < run.cycle_id]
    alarms = measured_alarms(metrics, earlier, run.settings.alarms)
    write_report(
        run.directory / "report.json",
        verdict,
        served=run.served,
        remarks=run.remarks,
        alarms=alarms,
        metrics=metrics,
        evaluation=evaluation,
        probed=probed,
        curves={name: list(curve.values()) for name, curve in run.curves.items()},
    )
    # A rejected candidate is written too, so that an operator can look at it.
    facts = card_facts(run, snapshot, verdict, metrics, probed=probed, alarms=alarms)
    _finish(run, verdict, metrics, _publish(run, trained, facts) if evaluation else None)


def _choose_step(run: Run, snapshot: Snapshot) -> None:
    """Where evidence is thin, PPO takes a smaller step; the report says so."""
    effective, asked = snapshot.amount.effective, run.settings.policy.iterations
    run.settings = run.settings.for_evidence(effective)
    taken = run.settings.policy.iterations
    run.notes |= {
        "evidence/effective": effective,
        "evidence/questions": float(snapshot.amount.questions),
        "evidence/iterations": float(taken),
    }
    if taken < asked:
        run.remarks.append(
            f"PPO takes a smaller step, at most {taken} of {asked} iterations: votes count as "
            f"{effective:.1f} comparisons, and all iterations need "
            f"{run.settings.full_comparisons} (cycle.full_comparisons)"
        )


def _test_number(store: FeedbackStore) -> int:
    """Which test of a candidate this is since the last promotion that was not rolled back."""
    tested = 1
    parents = {adapter.name: adapter.parent for adapter in store.adapters("policy")}
    standing: set[str] = set()
    name: str | None = store.serving().adapter
    while name is not None and name not in standing:  # what is served was trained from these
        standing.add(name)
        name = parents.get(name)
    for cycle in store.cycles(limit=MOST_TESTS):
        if cycle.state == "promoted" and cycle.adapter in standing:
            break
        tested += "win_rate" in (cycle.metrics or {})
    return tested


def _evaluate(
    run: Run, trained: Trained, level: float
) -> tuple[Evaluation, dict[str, ProbeCounts]]:
    """Compare the candidate with the served policy: held-out prompts, raters' prompts, probes.

    The second comparison is for the report only; the gate does not look at it (decisions/0009).
    """
    few, of_raters = run.settings.gate.min_prompts, trained.snapshot.held_out_rater_prompts
    held_out = trained.snapshot.held_out_prompts
    sizes = (
        max(run.settings.gate.prompts, len(held_out)),
        max(run.settings.gate.prompts, len(of_raters)) if len(of_raters) >= few else 0,
        len(run.probes),
    )
    on_held_out, on_raters, on_probes = (_part(run, sizes, number) for number in range(3))
    run.report("evaluate", 0.0)
    with run.clock.timed("evaluate"), out_of_memory_in_one_line("reply.tokens"):
        evaluation = compare_with_served(run, trained, held_out, on_held_out, level=level)
        run.notes |= measure_prompts(
            of_raters,
            lambda prompts: compare_with_served(run, trained, prompts, on_raters),
            needed=few,
        )
        probed = ask_probes(
            trained.base,
            run.probes,
            candidate="policy",
            served=run.attached_served,
            progress=on_probes,
            seed=run.seed,
        )
        run.notes |= probe_metrics(probed)
    return evaluation, probed


def _part(run: Run, sizes: Sequence[int], number: int) -> Callable[[float], None]:
    """The progress callback of one part of the stage `evaluate`."""
    before, whole = sum(sizes[:number]), sum(sizes)
    return lambda share: run.report("evaluate", (before + sizes[number] * share) / whole)


def _publish(run: Run, trained: Trained, card: CardFacts) -> str:
    """Write the reward model and the policy as adapters, then their rows; returns the policy's.

    The rows come after the files, so no row ever names an adapter that is not complete on disk. The
    files of an adapter whose row is refused go again.
    """
    number, base = run.store.next_adapter_number(), trained.base
    kinds: tuple[Literal["reward", "policy"], ...] = ("reward", "policy")
    for kind in kinds:
        name, staging = f"{kind}-{number:06d}", run.directory / f"staging-{kind}"
        if kind == "policy":
            base.save("policy", staging)
        else:
            trained.reward.save(staging)
            _save_uncertainty(run, trained, staging)
        (staging / CARD).write_text(model_card(replace(card, name=name, kind=kind)), "utf-8")
        target = run.data / "adapters" / name
        publish_adapter(
            staging,
            target,
            kind=kind,
            base=base.fingerprint,
            parent=run.start,
            extra={"cycle": run.cycle_id},
            key=run.key,
        )
        try:
            run.store.register_adapter(
                name, kind=kind, parent=run.start, cycle_id=run.cycle_id, metrics=card.metrics
            )
        except feedback_store.CycleEndedError:
            shutil.rmtree(target)
            raise
    return name


def _save_uncertainty(run: Run, trained: Trained, staging: Path) -> None:
    """What the server chooses replies by; without it, lots choose, and the cycle is as good."""
    if not run.choosing:
        return
    try:
        with out_of_memory_in_one_line("reply.prompt_tokens or reply.tokens"):
            fit_uncertainty(trained.base, trained.snapshot.train_votes).save(staging)
    except RLHFError as exc:
        run.remarks.append(f"replies to show are chosen as before: {exc}")


def _finish(run: Run, verdict: Verdict, metrics: dict[str, float], adapter: str | None) -> None:
    """End the cycle's row and serve the adapter, or begin its trial, in the same transaction.

    The candidate was compared with the policy that was served when the cycle began. If an operator
    has served another one meanwhile, the comparison says nothing about it: the cycle is rejected.
    """
    if verdict.promote:
        promotion = run.settings.promotion
        try:
            run.store.finish_cycle(
                run.cycle_id,
                state="promoted" if promotion == "offline" else "passed",
                reasons=run.remarks,
                metrics=metrics,
                adapter=adapter,
                promotion=promotion,
                expected_serving=run.served,
            )
            return
        except feedback_store.CycleEndedError:
            raise
        except feedback_store.ConflictError as exc:
            reasons: tuple[str, ...] = (f"{exc}; run another cycle",)
    else:
        reasons = verdict.reasons
    run.store.finish_cycle(
        run.cycle_id,
        state="rejected",
        reasons=(*reasons, *run.remarks),
        metrics=metrics,
        adapter=adapter,
    )


def _would_fail_again(exc: BaseException, *, resumed: bool) -> bool:
    """Whether a cycle that resumes from these checkpoints would fail in the same way."""
    if isinstance(exc, (DivergenceError, CheckpointError)):
        return True
    # an operator can repair these, with another file or more memory; a kill is not an Exception
    repairable = isinstance(exc, (RLHFError, OSError, MemoryError))
    return resumed and isinstance(exc, Exception) and not repairable


def help_cycle(data: Path, *, servers: Servers | None = None) -> None:
    """Train with the first process; every other process calls this while that one runs the cycle.

    It reads the data directory, which all processes share, but not the store, and writes nothing.
    The first process sends the settings: each derives a profile from its own machine, and all have
    to train the same weights. If the first process fails, the launcher ends this one.
    """
    map_large_blocks()
    received: Any = broadcast(None)  # from `_train_and_decide`
    shared, seed, snapshot, quantization = received
    no_store: Any = None  # only the first process has one
    run = Run(no_store, data=data, servers=servers, **shared)
    run.seed = seed
    try:
        train_stages(run, snapshot, quantization)
    finally:
        if run.rollouts is not None:
            run.rollouts.close()
