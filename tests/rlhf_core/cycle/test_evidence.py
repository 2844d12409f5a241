"""What a cycle looks at: all of it below the caps, a bounded sample above them, by id."""

import json
import os
from dataclasses import asdict

import pytest

from feedback_store import BASE_ADAPTER, FeedbackStore
from rlhf_core.config import CycleSettings, DataSettings, GateSettings
from rlhf_core.cycle.evidence import choose_evidence
from rlhf_core.cycle.resume import save_evidence, take_over
from rlhf_core.cycle.snapshot import Evidence, fixed_sample, read_snapshot, take_snapshot
from rlhf_core.errors import InvalidInputError
from rlhf_core.reward.reward_data import prompt_key
from tests.rlhf_core.conftest import prefer_the_kind_reply as vote

SETTINGS = CycleSettings(min_comparisons=4, gate=GateSettings(min_prompts=2))
RATERS = 12  # enough for caps on raters' weights


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as opened:
        for number in range(RATERS):
            opened.add_rater(f"rater-{number}", kind="simulated")
        yield opened


def cast(store, numbers):
    """A choice each, the first rater's more than the others'."""
    with store._file.write():  # one transaction, to be quick about it
        for number in numbers:
            vote(
                store,
                f"rater-{0 if number % 3 else number // 3 % RATERS}",
                number,
                "ab"[number % 2],
            )
    store.refresh_comparisons()


def thumb(store, rater, question, value):
    conversation = store.add_conversation(rater).id
    asked = store.add_message(conversation, "user", question)
    reply = store.add_message(
        conversation, "assistant", "so", parent_id=asked.id, adapter=BASE_ADAPTER
    )
    store.add_thumb(reply.id, rater, value)


def write(store, numbers):
    for number in numbers:
        asked = [{"role": "user", "content": f"Name thing {number}."}]
        store.add_demonstration("rater-0", f"thing {number}", prompt=asked)


def capped(**caps):
    most = {"most_opinions": 8, "most_held_out": 4, "most_thumbs": 3, "most_gate_prompts": 3}
    return SETTINGS.model_copy(update={"data": DataSettings(**most | caps)})


def end(store, evidence, ids, *, state="rejected", sft=0.0, adapter=None):
    """A cycle on this evidence."""
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, ids, prompts=evidence.unvoted, seen=evidence.seen)
    if adapter is not None:
        store.register_adapter(adapter, kind="policy", cycle_id=cycle.id)
    store.finish_cycle(cycle.id, state=state, metrics={"sft": sft})
    return cycle.id


def test_below_the_caps_a_cycle_looks_at_everything_with_the_weights_of_the_whole(store):
    cast(store, range(60))
    for number in range(6):
        thumb(store, f"rater-{number}", f"Is {number} nice?", 1)
    write(store, range(10))
    store.assess_raters()
    evidence = choose_evidence(store, SETTINGS)
    assert evidence.comparisons == pytest.approx({c.id: c.weight for c in store.comparisons()})
    assert evidence.unpaired == pytest.approx({u.id: u.weight for u in store.unpaired()})
    assert min(evidence.comparisons.values()) < 0.9, "a cap on a rater's weight is in it"
    assert set(evidence.demonstrations) == {d.id for d in store.demonstrations(split="train")}
    assert not evidence.old_comparisons
    found = read_snapshot(store, evidence, SETTINGS)
    assert [c.prompt for c in found.train] == [c.prompt for c in store.comparisons(split="train")]
    written = [(d.prompt, d.content) for d in store.demonstrations(split="train")]
    assert [(d.prompt, d.response) for d in found.demonstrations] == written


def test_above_the_caps_a_cycle_looks_at_no_more_and_at_the_same_with_the_same_seed(store):
    cast(store, range(90))
    for number in range(20):
        thumb(store, f"rater-{number % RATERS}", f"Is {number} nice?", 1)
    settings = capped()
    found = take_snapshot(store, settings)
    assert (len(found.train), len(found.held_out), len(found.train_thumbs)) == (8, 4, 3)
    assert len(found.held_out_prompts) == 3 and len(found.unvoted_prompts) == 0
    assert take_snapshot(store, settings) == found
    other = take_snapshot(store, settings.model_copy(update={"seed": 1}))
    assert set(other.ids) != set(found.ids)


def test_nobody_outweighs_the_others_in_a_sample(store):
    cast(store, range(150))
    evidence = choose_evidence(store, capped(most_opinions=60))
    weights = {c.id: c.rater_id for c in store.comparisons()}
    said = dict.fromkeys((f"rater-{n}" for n in range(RATERS)), 0.0)
    for name, weight in evidence.comparisons.items():
        said[weights[name]] += weight
    assert said["rater-0"] == pytest.approx(
        sum(said.values()) * 2 / len(list(filter(None, said.values())))
    )


def test_a_vote_that_was_not_drawn_is_not_new_and_not_used_and_may_be_used_later(store):
    cast(store, range(60))
    settings = capped()
    everything, used = {c.id for c in store.comparisons()}, set()
    for number in range(100, 130):
        found = take_snapshot(store, settings)
        assert set(found.ids) - everything == set()
        end(store, found.evidence, found.ids)
        used |= set(found.ids)
        noted = {
            item["id"]
            for rater in range(RATERS)
            for event in store.feedback_of(f"rater-{rater}")
            for item in event["comparisons"]
            if item["uses"]
        }
        assert noted == used, "a receipt tells of a use only if there was one"
        assert store.new_comparisons() == 0
        cast(store, [number])
        everything = {c.id for c in store.comparisons()}
    assert len(used) > 50, "those that were left out come in later"


def test_new_votes_come_first_and_old_ones_fill_up(store):
    cast(store, range(60))
    first = take_snapshot(store, capped())
    end(store, first.evidence, first.ids)
    cast(store, range(100, 104))
    new = {c.id for c in store.comparisons()} - first.evidence.comparisons.keys()
    second = choose_evidence(store, capped())
    old = set(second.old_comparisons)
    train = {c.id for c in store.comparisons(split="train")}
    fresh = (second.comparisons.keys() & train) - old
    assert 0 < len(fresh) <= 4 and fresh <= new and len(second.comparisons.keys() & train) == 8


def test_votes_since_the_last_promotion_are_new_and_younger_than_all_others(store):
    cast(store, range(40))
    first = take_snapshot(store, SETTINGS)
    compared = (*first.train, *first.held_out)
    assert first.new == len(compared) and {c.age for c in compared} == set(range(len(compared)))
    end(store, first.evidence, first.ids, state="promoted")
    cast(store, range(100, 106))
    end(store, first.evidence, [], state="rejected")
    cast(store, range(106, 112))
    second = take_snapshot(store, SETTINGS)
    before = {json.dumps(c.prompt) for c in compared}
    new = [c.age for c in (*second.train, *second.held_out) if json.dumps(c.prompt) not in before]
    assert second.new == len(new) and sorted(new) == list(range(len(new)))


def test_sft_gets_new_demonstrations_and_as_many_old_ones_once_there_are_many(store):
    cast(store, range(40))
    write(store, range(40))
    few = capped(most_demonstrations=100)
    many = capped(most_demonstrations=12, fewest_demonstrations=6)
    written = {d.id for d in store.demonstrations(split="train")}
    evidence = choose_evidence(store, few)
    assert set(evidence.demonstrations) == written
    assert len(choose_evidence(store, many).demonstrations) == 12
    end(store, evidence, [], state="rejected", sft=1.0)
    assert len(choose_evidence(store, many).demonstrations) == 12, "the policy was not promoted"
    end(store, evidence, [], state="promoted")
    assert len(choose_evidence(store, many).demonstrations) == 12, "SFT was left out"
    end(store, evidence, [], state="promoted", sft=1.0)
    assert len(choose_evidence(store, many).demonstrations) == 6
    as_many = capped(most_demonstrations=len(written), fewest_demonstrations=6)
    assert set(choose_evidence(store, as_many).demonstrations) == written, "not above the cap"
    write(store, range(100, 106))
    new = {d.id for d in store.demonstrations(split="train")} - written
    found = set(choose_evidence(store, many).demonstrations)
    assert 3 < len(new) <= 6
    assert new <= found and len(found) == 2 * len(new)
    assert set(choose_evidence(store, few).demonstrations) == written | new


def test_prompts_that_nobody_voted_on_are_told_apart_and_noted(store, tmp_path):
    cast(store, range(40))
    conversation = store.add_conversation("rater-1").id
    for number in range(12):
        store.add_message(conversation, "user", f"Unvoted {number}?")
    store.add_message(conversation, "user", "What is 1 plus 1?")  # somebody else voted on it
    found = take_snapshot(store, SETTINGS)
    asked = [prompt[-1]["content"] for prompt in found.unvoted_prompts]
    assert 4 < len(asked) < 12 and all(text.startswith("Unvoted") for text in asked)
    assert asked == sorted(asked, key=lambda text: -int(text.split()[1][:-1]))
    assert len(choose_evidence(store, capped(most_unvoted_prompts=2)).unvoted) == 2
    end(store, found.evidence, found.ids, state="promoted", adapter="policy-000001")
    assert store.forget("rater-1").adapters == ("policy-000001",)


def test_a_prompt_whose_vote_or_answer_is_old_counts_as_old(store):
    cast(store, range(40))
    write(store, range(10))
    first = take_snapshot(store, SETTINGS)
    assert not first.older_prompts
    end(store, first.evidence, first.ids, state="promoted", sft=1.0)
    cast(store, range(100, 110))
    second = take_snapshot(store, SETTINGS)
    assert {prompt_key(p) for p in second.older_prompts} == {prompt_key(p) for p in first.prompts}


def test_ppo_does_not_train_on_what_a_held_out_rater_voted_on(store):
    cast(store, range(40))
    for number in range(RATERS, 60):  # one in ten is held out once there are twenty
        store.add_rater(f"rater-{number}", kind="simulated")
        vote(store, f"rater-{number}", 1000 + number)
    store.refresh_comparisons()
    conversation = store.add_conversation("rater-1").id
    tested = {c.prompt[-1]["content"] for c in store.comparisons(split="held_out_raters")}
    for question in sorted(tested):
        store.add_message(conversation, "user", question)
    store.add_message(conversation, "user", "What is 4001 plus 4001?")
    store.add_message(conversation, "user", "What is 4002 plus 4002?")
    found = take_snapshot(store, SETTINGS)
    assert tested and {p[-1]["content"] for p in found.held_out_rater_prompts} == tested
    assert found.unvoted_prompts
    assert not tested & {p[-1]["content"] for p in found.unvoted_prompts}


def test_what_is_kept_on_disk_quotes_nobody_and_gives_the_same_snapshot(store, tmp_path):
    cast(store, range(60))
    thumb(store, "rater-3", "Is it nice?", 1)
    write(store, range(10))
    snapshot = take_snapshot(store, capped())
    failed, own = tmp_path / "1", tmp_path / "2"
    own.mkdir()
    how = {"config": {"seed": 0}, "served": BASE_ADAPTER}
    save_evidence(failed / "checkpoints", snapshot.evidence, snapshot, seed=5, **how)
    kept = (failed / "checkpoints" / "evidence.json").read_text()
    assert not [word for word in ("plus", "kind", "nice", "thing", "rater-") if word in kept]
    cast(store, range(100, 130))  # too late for this cycle

    def read(found):
        return read_snapshot(store, Evidence(**found), capped())

    assert take_over(failed, own, read, config={"seed": 1}, served=BASE_ADAPTER) is None
    found = take_over(failed, own, read, **how)
    assert found is not None
    again, seed = found
    assert asdict(again) == asdict(snapshot) and seed == 5


@pytest.mark.parametrize("change", ["quarantine", "change", "consent"])
def test_a_snapshot_is_not_resumed_if_a_vote_in_it_was_changed_or_withdrawn(
    store, tmp_path, change
):
    cast(store, range(60))
    snapshot = take_snapshot(store, SETTINGS)
    how = {"config": {}, "served": BASE_ADAPTER}
    save_evidence(tmp_path / "checkpoints", snapshot.evidence, snapshot, seed=5, **how)
    if change == "quarantine":
        store.quarantine("rater-3", by="operator", reason="a test")
    elif change == "change":
        choice = store.choices()[0]
        store.add_choice(choice.candidates_id, choice.rater_id, "b")
        store.refresh_comparisons()
    else:
        with store._file.write() as db:
            db.execute("UPDATE raters SET kind = 'person' WHERE id = 'rater-3'")
    own = tmp_path / "own"
    own.mkdir()

    def read(found):
        return read_snapshot(store, Evidence(**found), SETTINGS)

    assert take_over(tmp_path, own, read, **how) is None


def test_the_gates_prompts_are_the_same_ones_as_far_as_they_are_there():
    prompts = [[{"role": "user", "content": f"What is {n}?"}] for n in range(40)]
    some = fixed_sample(prompts, 10)
    assert len(some) == 10 and [p for p in prompts if p in some] == list(some)
    assert fixed_sample(prompts[::-1], 10) == some[::-1]
    without_one = fixed_sample([p for p in prompts if p != some[0]], 10)
    assert len([p for p in some if p in without_one]) == 9
    assert fixed_sample(prompts, 40) == tuple(prompts)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"min_comparisons": 10, "data": {"most_opinions": 9}}, "min_comparisons 10 is above"),
        ({"data": {"most_held_out": 5}}, r"prompts 6 is above cycle\.data\.most_held_out 5"),
        ({"data": {"most_gate_prompts": 5}}, r"data\.most_gate_prompts 5; lower"),
    ],
)
def test_caps_below_what_a_cycle_needs_are_refused(settings, says):
    with pytest.raises(InvalidInputError, match=says):
        CycleSettings.model_validate(settings).require_fit()


def steps(store, act):
    """SQLite's own steps, in hundreds, that an act takes: alike on every machine."""
    counted = []
    store._file._reader.conn.set_progress_handler(lambda: counted.append(1), 100)
    act()
    store._file._reader.conn.set_progress_handler(None, 0)
    return len(counted)


def test_above_the_caps_the_choice_and_the_reading_cost_the_same(store):
    settings = capped(most_opinions=4, most_held_out=2, most_gate_prompts=2, most_unvoted_prompts=2)
    settings = settings.model_copy(update={"gate": GateSettings(min_prompts=2)})
    costs = []
    for numbers in (range(150), range(200, 800)):
        cast(store, numbers)
        end(store, choose_evidence(store, settings), [])

        def prepare():
            read_snapshot(store, choose_evidence(store, settings), settings)

        costs.append(steps(store, prepare))
    assert costs[1] < 1.3 * costs[0]


def test_evidence_is_plain_json(store):
    cast(store, range(40))
    evidence = choose_evidence(store, SETTINGS)
    assert Evidence(**json.loads(json.dumps(asdict(evidence)))) == evidence
