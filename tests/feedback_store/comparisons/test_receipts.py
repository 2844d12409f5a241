"""Receipts: every event says what became of it, or why nothing did."""

import itertools
import os

import pytest

from feedback_store import CandidateReply, split_of
from feedback_store.comparisons import receipts
from feedback_store.datasets.trl_rows import ExportOptions


def receipt(chat, kind, which=-1):
    """The receipt of one of a rater's events, after deriving."""
    chat.store.refresh_comparisons()
    return [one for one in chat.store.feedback_of(chat.rater) if one["event"] == kind][which]


def test_a_vote_that_taught_names_its_cycle_and_adapter(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "b")
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
    store.register_adapter("policy-000001", kind="policy", cycle_id=cycle.id)
    store.finish_cycle(cycle.id, state="promoted", adapter="policy-000001", promotion="offline")
    [used] = receipt(ann, "choice")["comparisons"]
    assert (used["cycles"], used["adapters"]) == ([cycle.id], ["policy-000001"])
    assert receipt(ann, "choice")["left_out"] is None


def hold_out(store, rater):
    with store._file.write() as db:
        db.execute("UPDATE raters SET held_out = 1 WHERE id = ?", [rater])


def question(split):
    """A question whose votes are in this split, whoever casts them; "train" unless "held_out"."""
    asked = ([{"role": "user", "content": f"question {n}?"}] for n in itertools.count())
    return next(p[0]["content"] for p in asked if split_of(p) == split)


def run_cycle(store, state, *, adapter=None, parent="policy-000000"):
    """A cycle that uses all comparisons and ends in a state; with its adapter, if it makes one."""
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
    if adapter is not None:
        store.register_adapter(adapter, kind="policy", parent=parent, cycle_id=cycle.id)
    promotion = "offline" if state == "promoted" else None
    store.finish_cycle(cycle.id, state=state, adapter=adapter, promotion=promotion)
    return cycle.id


@pytest.mark.parametrize("split", ["train", "held_out", "held_out_raters"])
def test_a_use_says_whether_the_cycle_trained_or_measured_on_the_vote(store, ann, split):
    if split == "held_out_raters":
        hold_out(store, ann.rater)
    asked = question("held_out" if split == "held_out" else "train")
    ann.choose(ann.shown(asked, "x", "y"), "b")
    cycle = run_cycle(store, "promoted", adapter="policy-000001")
    [used] = receipt(ann, "choice")["comparisons"]
    assert used["uses"] == [
        {"cycle": cycle, "state": "promoted", "adapter": "policy-000001", "used_as": split}
        | {"adapter_is": "served"}
    ]


def test_how_a_cycle_used_a_vote_stays_known_when_its_split_changes(store, ann):
    ann.choose(ann.shown(question("train"), "x", "y"), "b")
    run_cycle(store, "promoted", adapter="policy-000001")
    with store._file.write() as db:
        db.execute("UPDATE comparisons SET split = 'held_out'")
    [used] = receipt(ann, "choice")["comparisons"]
    assert (used["split"], used["uses"][0]["used_as"]) == ("held_out", "train")


def adapters_are(store, chat):
    store.refresh_comparisons()
    [used] = store.feedback_of(chat.rater)[0]["comparisons"]
    return [use["adapter_is"] for use in used["uses"]]


def test_a_roll_back_and_a_promotion_back_show_in_what_became_of_the_adapter(store, ann):
    ann.choose(ann.shown(question("train"), "x", "y"), "b")
    run_cycle(store, "promoted", adapter="policy-000001")
    assert adapters_are(store, ann) == ["served"]
    run_cycle(store, "promoted", adapter="policy-000002", parent="policy-000001")
    assert adapters_are(store, ann) == ["built_on", "served"]
    store.serve("policy-000001", by="operator")
    assert adapters_are(store, ann) == ["served", "rolled_back"]
    store.serve("policy-000000", by="operator")
    assert adapters_are(store, ann) == ["rolled_back", "rolled_back"]
    store.serve("policy-000002", by="operator")
    assert adapters_are(store, ann) == ["built_on", "served"]


def test_the_adapter_of_a_rejected_cycle_was_never_served(store, ann):
    ann.choose(ann.shown(question("train"), "x", "y"), "b")
    run_cycle(store, "rejected", adapter="policy-000001")
    run_cycle(store, "rejected")
    assert adapters_are(store, ann) == ["never_served", None]


def test_a_cycle_that_ended_before_it_made_anything_has_used_no_vote(store, ann):
    ann.choose(ann.shown(question("train"), "x", "y"), "b")
    for state in ("refused", "failed"):
        run_cycle(store, state)
    assert adapters_are(store, ann) == []


@pytest.mark.parametrize("held_out", [False, True])
def test_an_unpaired_judgement_says_its_split(store, ann, held_out):
    if held_out:
        hold_out(store, ann.rater)
    ann.thumb(ann.reply(ann.ask(question("train")), "x"), 1)
    assert receipt(ann, "thumb")["split"] == ("held_out_raters" if held_out else "train")


def test_a_thumb_alone_counts_for_one_response(ann):
    ann.thumb(ann.reply(ann.ask("hello"), "x"), 1)
    found = receipt(ann, "thumb")
    assert (found["comparisons"], found["unpaired"], found["left_out"]) == ([], True, None)


def test_an_event_that_nothing_was_derived_from_yet_is_not_called_left_out(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "b")
    [waiting] = store.feedback_of(ann.rater)
    assert (waiting["comparisons"], waiting["left_out"]) == ([], None)


def test_what_was_changed_or_taken_back_says_so(ann):
    reply = ann.reply(ann.ask("hello"), "x")
    for value in (1, 0):
        ann.thumb(reply, value)
    assert [receipt(ann, "thumb", i)["left_out"] for i in (0, 1)] == [
        receipts.SUPERSEDED,
        receipts.WITHDRAWAL,
    ]


def test_without_consent_nothing_counts_and_the_receipt_says_so(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.set_consent(ann.rater, None)
    assert receipt(ann, "choice")["left_out"] == receipts.NO_CONSENT


def test_a_gold_question_is_no_evidence_and_its_receipt_says_so(store, ann):
    asked = ann.ask("hello")
    shown, _ = store.add_candidates(
        asked.id, [CandidateReply("x"), CandidateReply("y")], rater_id=ann.rater, gold="a"
    )
    ann.choose(shown, "a")
    assert receipt(ann, "choice")["left_out"] == receipts.TEST
    assert store.comparisons() == []


@pytest.mark.parametrize("texts", [("x", "x"), ("x", "y")])
def test_a_judgement_that_says_nothing_new_says_why(ann, texts):
    ann.choose(ann.shown("hello", *texts), "a")
    if texts[0] != texts[1]:
        ann.choose(ann.shown("hello", *texts), "b")
    why = receipts.IDENTICAL if texts[0] == texts[1] else receipts.OUTRANKED
    assert receipt(ann, "choice", 0)["left_out"] == why


def test_a_response_to_nothing_cannot_be_compared(store, ann):
    greeting = store.add_message(ann.conversation, "assistant", "Welcome!")
    ann.thumb(greeting, 1)
    assert receipt(ann, "thumb")["left_out"] == receipts.NO_PROMPT


def test_a_retry_counts_once_the_new_response_is_gone_on_from(store, ann):
    asked = ann.ask("hello")
    old = ann.reply(asked, "x")
    new = store.add_message(ann.conversation, "assistant", "y", parent_id=asked.id, retry_of=old.id)
    assert receipt(ann, "retry")["left_out"] == receipts.NOT_ACCEPTED
    store.add_message(ann.conversation, "user", "thanks", parent_id=new.id)
    found = receipt(ann, "retry")
    assert found["left_out"] is None
    [pair] = store.comparisons()
    assert (pair.source, found["comparisons"][0]["id"]) == ("retry", pair.id)


def test_a_retry_whose_old_response_was_gone_on_from_too_says_nothing(store, ann):
    asked = ann.ask("hello")
    old = ann.reply(asked, "x")
    new = store.add_message(ann.conversation, "assistant", "y", parent_id=asked.id, retry_of=old.id)
    for reply in (old, new):
        store.add_message(ann.conversation, "user", "and?", parent_id=reply.id)
    assert receipt(ann, "retry")["left_out"] == receipts.NOT_ACCEPTED
    assert store.comparisons() == []


def test_who_is_not_believed_and_whose_owner_did_not_agree_are_told_so(store, ann, bob):
    reply = bob.reply(bob.ask("hello"), "x")
    ann.thumb(reply, 1)
    store.set_consent(bob.rater, None)
    assert receipt(ann, "thumb")["left_out"] == receipts.OWNER
    store.set_consent(bob.rater, "v1")
    with store._file.write() as db:
        db.execute("UPDATE raters SET reliability = 0 WHERE id = 'ann'")
    assert receipt(ann, "thumb")["left_out"] == receipts.MUTED
    assert store.unpaired() == []


def test_nothing_of_a_rater_whose_receipts_say_not_believed_is_handed_out(store, ann, bob):
    for chat in (ann, bob):
        chat.choose(chat.shown("hello", "x", "y"), "a")
        reply = chat.reply(chat.ask("hi"), "z")
        chat.thumb(reply, 1)
        store.add_demonstration("bob", "mine", message_id=reply.id, idempotency_key=chat.rater)
    asked = [{"role": "user", "content": "a month?"}]
    store.add_demonstration("bob", "May", prompt=asked, idempotency_key="free")
    with store._file.write() as db:
        db.execute("UPDATE raters SET reliability = 0 WHERE id = 'bob'")
    store.refresh_comparisons()
    assert {one["left_out"] for one in store.feedback_of("bob")} == {receipts.MUTED}
    assert store.demonstrations() == []
    learnt = [*store.comparisons(), *store.unpaired()]
    assert {item.rater_id for item in learnt} == {"ann"}
    options = ExportOptions(split="all", with_metadata=True)
    for form in ("preference", "unpaired", "sft", "prompts"):
        assert "bob" not in {row["rater"] for row in store.export_rows(form, options)}
    [standing] = [one for one in store.raters() if one.id == "bob"]
    assert standing.weight == 0


def test_a_retry_that_opposite_thumbs_tell_more_directly_says_so(store, ann):
    asked = ann.ask("hello")
    old = ann.reply(asked, "x")
    new = store.add_message(ann.conversation, "assistant", "y", parent_id=asked.id, retry_of=old.id)
    ann.thumb(old, -1)
    ann.thumb(new, 1)
    assert receipt(ann, "retry")["left_out"] == receipts.OUTRANKED
    assert [pair.source for pair in store.comparisons()] == ["thumbs"]


def test_a_cycle_that_died_after_it_made_an_adapter_is_said_to_have_made_it(store, ann):
    ann.choose(ann.shown(question("train"), "x", "y"), "b")
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
    store.register_adapter("policy-000001", kind="policy", cycle_id=cycle.id)
    store.finish_cycle(cycle.id, state="failed", reasons=("killed",))
    [use] = receipt(ann, "choice")["comparisons"][0]["uses"]
    assert (use["state"], use["adapter"], use["adapter_is"]) == (
        "failed",
        "policy-000001",
        "never_served",
    )


def test_what_stands_is_counted_and_paged_newest_first(store, ann, bob):
    asked = ann.ask("hello")
    old, good = ann.reply(asked, "x"), ann.reply(asked, "y")
    bare = store.add_message(
        ann.conversation, "assistant", "z", parent_id=asked.id, retry_of=old.id
    )
    ann.thumb(old, -1)
    ann.thumb(good, 1)
    ann.thumb(good, 0)  # taken back
    ann.choose(ann.shown("2 + 2?", "4", "5"), "a")
    store.add_demonstration("ann", "better", message_id=old.id)
    store.refresh_comparisons()
    standing = store.standing_votes("ann")
    assert [one["kind"] for one in standing] == ["demonstration", "choice", "thumb"]
    assert store.standing_count("ann") == {"demonstration": 1, "choice": 1, "thumb": 1}
    pages = [one for n in range(3) for one in store.standing_votes("ann", limit=1, offset=n)]
    assert pages == standing and store.standing_votes("ann", "thumb") == standing[2:]
    ids = [one["id"] for one in standing]
    assert {one["id"] for one in store.feedback_of("ann", ids=ids)} == set(ids)
    assert store.feedback_of("bob", ids=ids) == [] == store.standing_votes("bob")
    store.add_message(ann.conversation, "user", "and", parent_id=bare.id)  # goes on from it
    store.refresh_comparisons()
    assert store.standing_count("ann")["retry"] == 1


def test_only_votes_that_stand_and_trained_an_adapter_taught_it(store, ann):
    shown = [ann.shown(f"{question('train')} {n}", "x", "y") for n in range(3)]
    for one in shown:
        ann.choose(one, "a")
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=os.getpid())
    used = [one.id for one in store.comparisons(split="train")]
    store.use_comparisons(cycle.id, used)
    store.register_adapter("policy-000001", kind="policy", cycle_id=cycle.id)
    store.finish_cycle(cycle.id, state="promoted", adapter="policy-000001", promotion="offline")
    assert store.taught("ann", "policy-000001") == len(used) > 0
    assert store.taught("ann", "policy-000000") == 0 == store.taught("bob", "policy-000001")
    taught = next(one for one in store.feedback_of("ann") if one["comparisons"][0]["uses"])
    store.withdraw_feedback("ann", "choice", taught["id"])
    assert store.taught("ann", "policy-000001") == len(used) - 1
