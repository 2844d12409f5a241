import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from feedback_store import BASE_ADAPTER, CandidateReply, CycleInProgressError, FeedbackStore
from feedback_store.splits import is_held_out_question
from rlhf_core.config import CycleSettings, GateSettings, RewardSettings
from rlhf_core.cycle import run_cycle
from rlhf_core.cycle.fitting import fit_snapshot
from rlhf_core.cycle.report import budget_spent
from rlhf_core.cycle.run import _choose_step, _finish, _test_number
from rlhf_core.cycle.snapshot import take_snapshot
from rlhf_core.cycle.stages import (
    Run,
    _forget,
    _load,
    _pretraining_texts,
    _sft,
    _train_reward_models,
)
from rlhf_core.cycle.whose.card import card_facts
from rlhf_core.errors import ModelError, NoRoomError, NotEnoughDataError
from rlhf_core.gate.checks import Check, Verdict
from rlhf_core.model.adapters import publish_adapter
from rlhf_core.records import Comparison
from rlhf_core.reward.reward_data import prompt_key

SETTINGS = CycleSettings(min_comparisons=10, gate=GateSettings(min_prompts=2))
ASKS_MORE = CycleSettings(min_comparisons=50)
WON = Verdict(True, (Check("win_rate_low", 0.7, 0.5, True, ""),))


@pytest.fixture
def cast(vote):
    """Has one of five raters choose between two replies to a prompt of its own."""

    def one(store, number, choice="a", *, prompt=None):
        rater = store.add_rater(f"rater-{number % 5}", kind="simulated").id
        vote(store, rater, number, choice, prompt)

    return one


@pytest.fixture
def data(tmp_path, cast):
    """A data directory with 40 votes."""
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for number in range(40):
            cast(store, number)
    return tmp_path


def test_forty_votes_are_too_little_evidence_and_change_nothing(data):
    cycle = run_cycle(data, ASKS_MORE)
    assert cycle.state == "refused"
    assert "too little evidence: 40" in cycle.reasons[0]
    assert not (data / "adapters").exists()
    with FeedbackStore(data / "feedback.db") as store:
        assert store.serving().adapter == BASE_ADAPTER


def test_the_snapshot_keeps_held_out_prompts_out_of_training(data):
    with FeedbackStore(data / "feedback.db") as store:
        found = take_snapshot(store, SETTINGS)
    train = {json.dumps(c.prompt) for c in found.train}
    held_out = {json.dumps(c.prompt) for c in found.held_out}
    assert train and held_out and not train & held_out
    assert {json.dumps(p) for p in found.prompts} <= train
    assert {json.dumps(p) for p in found.held_out_prompts} == held_out


def test_rewritten_answers_train_but_are_no_votes(data):
    with FeedbackStore(data / "feedback.db") as store:
        before = take_snapshot(store, SETTINGS)
        rater = store.add_rater("writer", kind="simulated").id
        conversation = store.add_conversation(rater).id
        for number in range(12):
            asked = store.add_message(conversation, "user", f"Name thing {number}.")
            reply = store.add_message(
                conversation, "assistant", "no", parent_id=asked.id, adapter=BASE_ADAPTER
            )
            store.add_demonstration(
                rater, f"thing {number}", message_id=reply.id, idempotency_key=f"better-{number}"
            )
        after = take_snapshot(store, SETTINGS)
    assert len(after.train) + len(after.held_out) == 52
    assert len(after.train_votes) == len(before.train_votes)
    assert 0 < len(after.demonstrations) < 12  # the rest are on held-out prompts


def ask(store, rater, question, texts):
    """Blind replies to a question in a conversation of its own: the prompt's id and theirs."""
    conversation = store.add_conversation(rater).id
    asked = store.add_message(conversation, "user", question)
    return asked, [
        store.add_message(
            conversation, "assistant", text, parent_id=asked.id, adapter=BASE_ADAPTER
        ).id
        for text in texts
    ]


def test_pairs_of_one_opinion_come_as_a_group_whose_mean_weight_is_the_opinions(data):
    with FeedbackStore(data / "feedback.db") as store:
        rater = store.add_rater("ranker-canary", kind="simulated").id
        for number in range(8):
            conversation = store.add_conversation(rater).id
            asked = store.add_message(conversation, "user", f"Rank {number}.")
            replies = [
                CandidateReply(content=f"{word} {number}", adapter=BASE_ADAPTER)
                for word in ("kind", "plain", "dull", "rude")
            ]
            shown, _ = store.add_candidates(asked.id, replies, rater_id=rater)
            order = [["a"], ["b", "c"], ["d"]]
            store.add_ranking(shown, rater, order, idempotency_key=f"ranking-{number}")
            _, thumbed = ask(store, rater, f"Thumb {number}.", ["good", "fine", "bad"])
            for message, value in zip(thumbed, (1, 1, -1), strict=True):
                store.add_thumb(message, rater, value, idempotency_key=f"{message} {value}")
        found = take_snapshot(store, SETTINGS)
    groups = defaultdict(list)
    for c in (*found.train, *found.held_out):  # no group has its number twice
        groups[c.could_tie, c.group].append(c)
    rankings = [g for (could_tie, group), g in groups.items() if could_tie and group]
    thumbs = [g for (could_tie, _), g in groups.items() if not could_tie]
    assert rankings and all(len(g) == 6 for g in rankings)
    assert thumbs and all(len(g) == 2 for g in thumbs)
    for group in [*rankings, *thumbs]:
        assert len({json.dumps(c.prompt) for c in group}) == 1
        assert len({c.weight for c in group}) == 1
    relative = rankings[0][0].weight / thumbs[0][0].weight
    assert relative == pytest.approx(1)  # one ranking, one pair of opposite thumbs
    assert "canary" not in repr(found)


def test_thumbs_alone_and_across_raters_are_in_the_snapshot_without_names(data):
    with FeedbackStore(data / "feedback.db") as store:
        for number in range(24):
            _, (reply,) = ask(
                store,
                store.add_rater(f"canary-{number % 6}", kind="simulated").id,
                f"Same question {number // 2}?",
                [f"reply {number}"],
            )
            value = 1 if number % 2 else -1
            store.add_thumb(reply, f"canary-{number % 6}", value, idempotency_key=f"thumb-{number}")
            lonely = f"Lonely question {number}?"
            _, (reply,) = ask(store, f"canary-{number % 6}", lonely, ["reply"])
            store.add_thumb(reply, f"canary-{number % 6}", 1, idempotency_key=f"alone-{number}")
        found = take_snapshot(store, SETTINGS)
    across = [c for c in [*found.train, *found.held_out] if c.raters]
    assert len(across) == 12
    assert all(c.raters[0] != c.raters[1] and not c.could_tie for c in across)
    asked = [u.prompt[-1]["content"] for u in found.train_thumbs]
    lonely = [f"Lonely question {number}?" for number in range(24)]
    assert set(asked) == {text for text in lonely if not is_held_out_question(text)}
    assert len({u.rater for u in found.train_thumbs}) == 6
    assert not [c for c in (*found.train_votes, *found.held_out_votes) if c.raters]
    assert "canary" not in repr(found)


def test_the_snapshot_says_which_policies_wrote_the_replies_of_a_vote(data):
    with FeedbackStore(data / "feedback.db") as store:
        found = take_snapshot(store, SETTINGS)
    assert {c.versions for c in found.train_votes} == {(BASE_ADAPTER, BASE_ADAPTER)}


def test_a_vote_that_changes_while_the_cycle_plans_is_kept_as_used(data, model_path, monkeypatch):
    def change_every_vote(*_: object, **__: object) -> None:
        with FeedbackStore(data / "feedback.db") as store, store._file.read() as db:
            shown = db.conn.execute("SELECT candidates_id, rater_id FROM choices").fetchall()
        with FeedbackStore(data / "feedback.db") as store:
            for candidates, rater in shown:
                store.add_choice(candidates, rater, "tie")
            store.refresh_comparisons()

    def stop(*_: object) -> None:
        raise NoRoomError("it came as far as the training")

    monkeypatch.setattr("rlhf_core.cycle.run.plan_cycle", change_every_vote)
    monkeypatch.setattr("rlhf_core.cycle.run.train_stages", stop)
    with pytest.raises(NoRoomError, match="as far as the training"):
        run_cycle(data, SETTINGS, model=str(model_path))


def test_a_vote_that_is_withdrawn_before_it_is_noted_is_not_learnt_from(
    data, model_path, monkeypatch
):
    taken, trained = [], []

    def take_while_somebody_thinks_again(store, settings):
        snapshot = take_snapshot(store, settings)
        if not taken:
            with store._file.read() as db:
                choice = db.conn.execute("SELECT candidates_id, rater_id FROM choices").fetchone()
            store.add_choice(*choice, "tie")
            store.refresh_comparisons()
        taken.append(snapshot.ids)
        return snapshot

    def stop(run, snapshot, _) -> None:
        trained.extend(snapshot.ids)
        raise NoRoomError("it came as far as the training")

    monkeypatch.setattr("rlhf_core.cycle.run.take_snapshot", take_while_somebody_thinks_again)
    monkeypatch.setattr("rlhf_core.cycle.run.train_stages", stop)
    with pytest.raises(NoRoomError, match="as far as the training"):
        run_cycle(data, SETTINGS, model=str(model_path))
    first, second = map(set, taken)
    assert first != second == set(trained)


def test_ties_alone_are_too_little_data(tmp_path, cast):
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for number in range(40):
            cast(store, number, "tie")
        with pytest.raises(NotEnoughDataError, match="0 decided"):
            take_snapshot(store, SETTINGS)


def test_votes_that_a_cycle_used_are_not_new_again(data, cast):
    with FeedbackStore(data / "feedback.db") as store:
        row = store.start_cycle({}, pid=os.getpid())
        store.use_comparisons(row.id, take_snapshot(store, SETTINGS).ids)
        store.finish_cycle(row.id, state="rejected", reasons=("a test",))
        with pytest.raises(NotEnoughDataError, match="nothing new"):
            take_snapshot(store, SETTINGS)
        cast(store, 99)
        assert len(take_snapshot(store, SETTINGS).ids) == 41


def test_prompts_whose_votes_are_all_old_are_the_older_prompts(data, cast):
    with FeedbackStore(data / "feedback.db") as store:
        first = take_snapshot(store, SETTINGS)
        assert not first.older_prompts
        row = store.start_cycle({}, pid=os.getpid())
        store.use_comparisons(row.id, first.ids)
        store.finish_cycle(row.id, state="rejected", reasons=("a test",))
        for number in range(90, 110):
            cast(store, number)
        second = take_snapshot(store, SETTINGS)
    assert second.older_prompts == first.prompts
    assert set(map(json.dumps, second.prompts)) > set(map(json.dumps, first.prompts))


def test_pretraining_text_is_the_operators_file_or_the_starters_own(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("One document.\n\nAnother.\n")
    named = CycleSettings(pretraining_file=str(file))
    assert _pretraining_texts(named, "starter") == ["One document.", "Another."]
    assert _pretraining_texts(CycleSettings(), "some/model") == []
    assert len(_pretraining_texts(CycleSettings(), "starter")) > 1000
    with pytest.raises(NotEnoughDataError, match=r"none\.txt cannot be read"):
        _pretraining_texts(CycleSettings(pretraining_file=str(tmp_path / "none.txt")), "starter")


def test_a_failed_stage_is_written_down_and_serving_stays(data):
    with pytest.raises(ModelError):
        run_cycle(data, SETTINGS, model=str(data / "no-such-model"))
    with FeedbackStore(data / "feedback.db") as store:
        cycle = store.last_cycle()
        assert cycle.state == "failed"
        assert "no-such-model" in cycle.reasons[0]
        assert store.serving().adapter == BASE_ADAPTER


def test_a_second_cycle_is_refused_while_one_runs(data):
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with FeedbackStore(data / "feedback.db") as store:
            store.start_cycle({}, pid=sleeper.pid)
        with pytest.raises(CycleInProgressError):
            run_cycle(data, SETTINGS)
    finally:
        sleeper.kill()
        sleeper.communicate()
    assert run_cycle(data, ASKS_MORE).state == "refused"  # a dead one is in nobody's way


def test_the_resolved_settings_are_written_beside_the_results(data):
    cycle = run_cycle(data, CycleSettings(min_comparisons=50, seed=7))
    found = json.loads(Path(data / "cycles" / f"{cycle.id:06d}" / "config.json").read_text())
    assert (found["seed"], found["model"]) == (7, "starter")


def test_votes_on_too_few_held_out_prompts_are_refused_before_anything_is_trained(data):
    settings = CycleSettings(min_comparisons=10, gate=GateSettings(min_prompts=39))
    cycle = run_cycle(data, settings)
    assert cycle.state == "refused"
    assert "held-out prompts, 39 are needed" in cycle.reasons[0]


@pytest.fixture
def finishing(data):
    """A cycle that has published its candidate and only has to finish."""
    with FeedbackStore(data / "feedback.db") as store:
        for name in ("policy-000001", "policy-000002"):
            store.register_adapter(name, kind="policy", parent=BASE_ADAPTER)
        store.set_adapter_state("policy-000002", "published")
        row = store.start_cycle({}, pid=os.getpid())
        yield Run(store, row.id, data, SETTINGS, BASE_ADAPTER)


def test_sft_on_too_few_demonstrations_is_skipped_and_both_numbers_are_reported(finishing):
    told = []
    finishing.directory.mkdir(parents=True)
    finishing.progress = lambda *said: told.append(said)
    snapshot = take_snapshot(finishing.store, SETTINGS)
    assert _sft(finishing, None, snapshot) is None  # the model is not even looked at
    counted = {"sft": 0.0, "demonstrations": 0, "demonstrations_needed": 16}
    assert told[-1] == ("sft", 1.0, counted)
    assert finishing.notes == counted


def test_the_members_of_the_held_out_reward_model_are_folds_of_all_held_out_votes(finishing, base):
    reward = RewardSettings(members=2, epochs=1, min_steps=1, reference_samples=2)
    update = {"reward": reward, "gate": GateSettings(min_prompts=2, members=3)}
    finishing.settings = SETTINGS.model_copy(update=update)
    finishing.directory.mkdir(parents=True)
    snapshot, _ = fit_snapshot(take_snapshot(finishing.store, SETTINGS), base.chat)
    model, held_out_model = _train_reward_models(finishing, base, snapshot, None)
    assert len(model.members) == 2
    assert held_out_model.heads.shape[0] == 3
    prompts = {prompt_key(c.prompt) for c in snapshot.held_out}
    assert set().union(*held_out_model.learnt_from) == prompts
    left_out = [key for own in held_out_model.learnt_from for key in prompts - own]
    assert sorted(left_out) == sorted(prompts), "each by one member"
    model.drop()


def test_a_smaller_step_is_remarked_and_a_full_one_is_not(finishing):
    snapshot = take_snapshot(finishing.store, SETTINGS)
    _choose_step(finishing, snapshot)
    assert finishing.settings.policy.iterations == 28  # of 40, by the root of 40 / 80
    (remark,) = finishing.remarks
    assert remark.startswith("PPO takes a smaller step, at most 28 of 40 iterations: votes count")
    assert finishing.notes["evidence/effective"] == 40.0
    finishing.settings = SETTINGS.model_copy(update={"full_comparisons": 40})
    _choose_step(finishing, snapshot)
    assert finishing.settings.policy.iterations == 40 and len(finishing.remarks) == 1


def test_no_two_cycles_use_the_same_random_numbers(data):
    settings = SETTINGS.model_copy(update={"seed": 10})
    seeds = [Run(None, number, data, settings, BASE_ADAPTER).seed for number in (1, 2, 3)]
    assert seeds == [11, 12, 13]


@pytest.mark.parametrize(
    ("served", "anchor", "attached"),
    [
        (BASE_ADAPTER, BASE_ADAPTER, None),
        ("policy-000002", BASE_ADAPTER, None),
        ("policy-000002", "policy-000002", "served"),
        ("policy-000002", "policy-000001", "anchor"),
        (BASE_ADAPTER, "policy-000001", "anchor"),
    ],
)
def test_the_anchor_is_attached_once(data, served, anchor, attached):
    run = Run(None, 1, data, SETTINGS, served, anchor=anchor)
    assert run.attached_anchor == attached


@pytest.mark.parametrize("start", ["served", "anchor"])
def test_the_policy_begins_as_the_served_one_or_as_the_anchor(
    finishing, base, disturb, model_path, start
):
    base.attach("written")
    disturb(base, "written")
    base.save("written", finishing.data / "staging")
    publish_adapter(
        finishing.data / "staging",
        finishing.data / "adapters" / "policy-000001",
        kind="policy",
        base=base.fingerprint,
        key=finishing.key,
    )
    finishing.model, finishing.served = str(model_path), "policy-000001"
    finishing.reply = base.reply
    policy = SETTINGS.policy.model_copy(update={"start": start})
    finishing.settings = SETTINGS.model_copy(update={"policy": policy})
    loaded = _load(finishing, "none")
    assert finishing.start == {"served": "policy-000001", "anchor": BASE_ADAPTER}[start]
    assert (loaded.digest("policy") == loaded.digest("served")) == (start == "served")
    snapshot = take_snapshot(finishing.store, SETTINGS)
    finishing.directory.mkdir(parents=True)
    reference = _sft(finishing, loaded, snapshot)
    if start == "anchor":
        assert reference is None, "PPO's reference is the bare base"
    else:
        assert loaded.digest(reference) == loaded.digest("served")


@pytest.mark.parametrize(
    ("half_life", "says"), [(None, "as if tastes had changed"), (60, "half_life_votes"), (0, None)]
)
def test_earlier_votes_fade_once_the_newest_say_the_opposite(finishing, base, half_life, says):
    """The first of two replies is liked until visitors turn."""
    liked = [("a", age) for age in range(120, 240)] + [("b", age) for age in range(120)]
    votes = tuple(
        Comparison(
            ({"role": "user", "content": f"what is {7 * age % 241}"},),
            f"yes of course, my friend {age % 3}",
            f"no, go away {age % 3}",
            label,
            age=age,
        )
        for label, age in liked
    )
    update = {"data": SETTINGS.data.model_copy(update={"half_life_votes": half_life})}
    finishing.settings = SETTINGS.model_copy(update=update)
    snapshot = replace(
        take_snapshot(finishing.store, SETTINGS),
        train=votes,
        held_out=votes,
        train_votes=votes,
        held_out_votes=votes,
        new=120,
    )
    found = _forget(finishing, base, snapshot)
    assert (found == snapshot) == (says is None)
    if says is not None:
        assert finishing.notes["data/half_life"] <= 120
        assert finishing.remarks[0].startswith("a vote counts half after")
        assert says in finishing.remarks[0]
        assert sum(c.weight for c in found.train if c.age >= 120) < 60
        assert {c.age for c in found.train_votes} == set(range(120))


def test_a_spent_budget_says_from_where_and_what_to_do():
    said = budget_spent(24.0, "after 7 of 30", served="policy-000003", anchor="policy-000001")
    assert said.startswith("the KL budget of 24 nats a reply is spent after 7 of 30")
    assert "further from policy-000001" in said
    assert "`feedback-chat adapters anchor policy-000003`, or raise cycle.policy.kl_budget" in said
    from_base = budget_spent(24.0, "after 0 of 30", served=BASE_ADAPTER, anchor=BASE_ADAPTER)
    assert "adapters anchor" not in from_base and "raise cycle.policy.kl_budget" in from_base


@pytest.mark.parametrize("verdict", [WON, Verdict(False, ())])
def test_what_is_remarked_is_among_the_cycles_reasons_however_it_ends(finishing, verdict):
    finishing.remarks.append("the KL budget is spent")
    _finish(finishing, verdict, {}, "policy-000001")
    assert finishing.store.cycle(finishing.cycle_id).reasons == ("the KL budget is spent",)


def test_a_cycles_cards_tell_whose_votes_it_used_and_which_tests_failed(finishing):
    snapshot = take_snapshot(finishing.store, SETTINGS)
    verdict = Verdict(False, (*WON.checks, Check("kl", 9.0, 4.0, False, "")))
    card = card_facts(finishing, snapshot, verdict, {"win_rate": 0.8}, probed={}, alarms=[])
    assert (card.parent, card.failed, card.base) == (BASE_ADAPTER, ["kl"], None)
    assert (card.portrait.programs, card.portrait.votes) == (5, len(snapshot.evidence.comparisons))
    assert [part.name for part in card.portrait.groups] == ["simulated"]


def test_a_promotion_ends_the_cycle_and_serves_its_adapter_at_once(finishing):
    _finish(finishing, WON, {"win_rate": 0.8}, "policy-000001")
    store = finishing.store
    assert store.serving().adapter == "policy-000001"
    assert store.adapter("policy-000001").state == "published"
    assert store.cycle(finishing.cycle_id).state == "promoted"


def test_a_candidate_is_rejected_if_an_operator_served_another_policy_meanwhile(finishing):
    store = finishing.store
    store.serve("policy-000002", by="operator")
    _finish(finishing, WON, {"win_rate": 0.8}, "policy-000001")
    cycle = store.cycle(finishing.cycle_id)
    assert store.serving().adapter == "policy-000002"
    assert cycle.state == "rejected"
    assert "policy-000002" in cycle.reasons[0]
    assert store.adapter("policy-000001").state == "rejected"


def test_tests_are_counted_since_the_last_promotion_and_only_where_a_candidate_was_compared(data):
    compared, not_compared = {"win_rate": 0.5}, {"seconds": 1.0}
    with FeedbackStore(data / "feedback.db") as store:

        def end(state, metrics=None):
            cycle = store.start_cycle({}, pid=os.getpid())
            store.finish_cycle(cycle.id, state=state, metrics=metrics)
            return _test_number(store)

        assert _test_number(store) == 1
        assert end("rejected", compared) == 2
        assert end("refused") == end("failed") == end("rejected", not_compared) == 2
        assert end("rejected", compared) == 3
        promote(store, "policy-000001", compared)
        assert _test_number(store) == 1
        assert end("rejected", compared) == 2
        promote(store, "policy-000002", compared)
        assert _test_number(store) == 1
        store.serve("policy-000001", by="operator: rollback")  # so that promotion does not stand
        assert _test_number(store) == 3


def promote(store, name, metrics):
    cycle = store.start_cycle({}, pid=os.getpid())
    served = store.serving().adapter
    store.register_adapter(name, kind="policy", parent=served, cycle_id=cycle.id)
    how = {"state": "promoted", "adapter": name, "promotion": "offline"}
    store.finish_cycle(cycle.id, metrics=metrics, **how)
