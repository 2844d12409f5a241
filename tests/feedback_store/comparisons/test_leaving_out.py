"""What the operator leaves out counts nowhere, until it is taken in again; and nothing is lost."""

import dataclasses
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_store import FeedbackStore
from feedback_store.comparisons.leaving_out import MOST_REASON
from feedback_store.comparisons.receipts import LEFT_OUT, NOT_ACCEPTED
from feedback_store.datasets.trl_rows import ExportOptions
from feedback_store.errors import ConflictError, InvalidFeedbackError, UnknownRecordError
from feedback_store.feedback.events import EVENT_TABLES
from tests.feedback_store.conftest import Chat

WHY = "a pasted secret"


def said(store, rater="ann", count=3):
    """A conversation with choices, a lone thumb, a better answer and a question nobody voted on."""
    chat = Chat(store, rater)
    for number in range(count):
        chat.choose(chat.shown(f"question {number} of {rater}", "x", "y"), "a")
    chat.thumb(chat.reply(chat.ask(f"what is {rater}?"), "a person"), 1)
    worse = chat.reply(chat.ask(f"who is {rater}?"), "nobody")
    store.add_demonstration(chat.rater, "somebody", message_id=worse.id)
    chat.ask(f"and now, {rater}?")
    store.refresh_comparisons()
    return chat


def taught(store):
    """All that training, the gate and exports read, by its ids and texts."""
    everything = ExportOptions(split="all", with_metadata=True)
    forms = ("preference", "unpaired", "sft", "prompts")
    pool = [
        row.id
        for table in ("comparisons", "unpaired", "demonstrations")
        for split in ("train", "held_out", "held_out_raters")
        for row in store.opinion_pool(table, split, numbers=range(1, 999), most=99, seed="1")
    ]
    asked = store.prompts_of(store.unvoted_prompts(99))
    return {
        "comparisons": [c.id for c in store.comparisons()],
        "unpaired": [u.id for u in store.unpaired()],
        "demonstrations": [d.id for d in store.demonstrations()],
        "pool": sorted(pool),
        "unvoted": sorted(json.dumps(prompt) for prompt in asked.values()),
        "new": store.new_comparisons(),
        "counted": store.counts()["comparisons"],
        "said": sorted(line.id for line in store.said()),
        **{form: [row["id"] for row in store.export_rows(form, everything)] for form in forms},
    }


def choices(store, rater="ann"):
    return [one["id"] for one in store.feedback_of(rater) if one["event"] == "choice"]


def in_trial(store, chat):
    """A pair that decides a trial."""
    shown = chat.shown("which version?", "x", "y")
    with store._file.write() as db:
        db.execute(
            "INSERT INTO trials (kind, adapter, other, started_at)"
            " VALUES ('guard', 'policy-000000', 'policy-000000', '2026')"
        )
        db.execute("UPDATE candidates SET trial_id = 1 WHERE id = ?", [shown])
    return shown


def test_a_conversation_that_is_left_out_counts_nowhere(store):
    said(store, "bob")
    before = taught(store)
    ann = said(store, "ann")
    assert all(len(taught(store)[name]) > len(before[name]) for name in ("preference", "prompts"))
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    assert taught(store) == before
    ann.choose(ann.shown("a later question", "x", "y"), "a")
    store.refresh_comparisons()
    assert taught(store) == before, "nor what is said in it later"


def test_taken_in_again_everything_counts_as_before(store):
    ann = said(store)
    before = taught(store)
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    store.take_in("conversation", [ann.conversation], by="operator")
    assert taught(store) == before


def test_one_vote_that_is_left_out_takes_no_other_with_it(store):
    said(store)
    one, *others = choices(store)
    store.leave_out("vote", [one], by="operator", reason=WHY)
    derived = {event for c in store.comparisons() for event in c.event_ids}
    assert one not in derived and derived >= set(others)


def test_what_others_said_in_a_conversation_is_left_out_with_it(store):
    ann, bob = said(store), Chat(store, "bob")
    reply = ann.reply(ann.ask("seen by both"), "yes")
    bob.thumb(reply, 1)
    store.refresh_comparisons()
    assert any(u.rater_id == "bob" for u in store.unpaired())
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    assert not any(u.rater_id == "bob" for u in store.unpaired())


def test_a_vote_that_a_cycle_used_is_not_new_when_it_is_taken_in(store):
    said(store)
    cycle = store.start_cycle({}, pid=os.getpid()).id
    used = [c.id for c in store.comparisons()]
    store.use_comparisons(cycle, used, seen=store.last_numbers())
    store.finish_cycle(cycle, state="rejected", reasons=("no",))
    assert store.new_comparisons() == 0
    [one] = choices(store)[:1]
    store.leave_out("vote", [one], by="operator", reason=WHY)
    store.take_in("vote", [one], by="operator")
    assert store.new_comparisons() == 0


def test_the_receipt_says_that_it_is_not_used_and_blames_nobody(store):
    ann = said(store)
    store.leave_out("vote", choices(store)[:1], by="operator", reason=WHY)
    [told] = [one["left_out"] for one in store.feedback_of("ann") if one["left_out"]]
    assert told == LEFT_OUT and WHY not in told
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    assert {one["left_out"] for one in store.feedback_of("ann")} == {LEFT_OUT}


def test_the_choice_in_a_trial_does_not_count(store, ann):
    shown = in_trial(store, ann)
    ann.choose(shown, "a")
    assert len(store.trial_choices(1)) == 1
    store.leave_out("vote", choices(store), by="operator", reason=WHY)
    assert store.trial_choices(1) == []


def test_a_liked_retry_teaches_nothing_once_the_thumb_is_left_out(store, ann):
    asked = ann.ask("hello")
    before = ann.reply(asked, "x")
    made = {"parent_id": asked.id, "adapter": "policy-000000", "retry_of": before.id}
    new = store.add_message(ann.conversation, "assistant", "y", **made)
    ann.thumb(new, 1)
    store.refresh_comparisons()
    assert [c.source for c in store.comparisons()] == ["retry"]
    [thumb] = [one["id"] for one in store.feedback_of("ann") if one["event"] == "thumb"]
    store.leave_out("vote", [thumb], by="operator", reason=WHY)
    assert store.comparisons() == []
    told = {one["event"]: one["left_out"] for one in store.feedback_of("ann")}
    assert told == {"retry": NOT_ACCEPTED, "thumb": LEFT_OUT}


def given_again(store, ann, kind):
    """A vote of a kind: how to give it, with the same opinion each time, and another opinion."""
    asked = ann.ask("hello")
    before = ann.reply(asked, "x")
    made = {"parent_id": asked.id, "adapter": "policy-000000", "retry_of": before.id}
    new = store.add_message(ann.conversation, "assistant", "y", **made)
    pair, three = ann.shown("2 + 2?", "4", "5"), ann.shown("3 + 3?", "6", "7", "8")

    def vote(other=False):
        key = {"idempotency_key": ann.key()}
        if kind == "thumb":
            store.add_thumb(before.id, "ann", -1 if other else 1, tags=[key["idempotency_key"]])
        elif kind == "choice":
            store.add_choice(pair, "ann", "b" if other else "a", strength=ann._keys, **key)
        elif kind == "ranking":
            order = [["b"], ["a", "c"]] if other else [["a"], ["b", "c"]]
            store.add_ranking(three, "ann", order, **key)
        elif kind == "demonstration":
            text = "another" if other else "better"
            store.add_demonstration("ann", text, message_id=before.id, **key)
        else:
            store.compare_with_before(new.id, "ann", "worse" if other else "better", **key)

    return vote


@pytest.mark.parametrize("kind", EVENT_TABLES)
def test_a_vote_that_is_given_again_stays_left_out_and_a_changed_one_counts(store, ann, kind):
    vote = given_again(store, ann, kind)

    def present():
        [one] = [
            one
            for one in store.feedback_of("ann")
            if one["event"] == kind and one["superseded_at"] is None
        ]
        return one["id"], one["left_out"]

    vote()
    first, _ = present()
    store.leave_out("vote", [first], by="Eve", reason=WHY)
    [before] = store.left_out_items()
    vote()
    again, why = present()
    assert again != first and why == LEFT_OUT
    assert store.left_out_items() == [dataclasses.replace(before, id=again)]
    store.take_in("vote", [again], by="operator")
    assert store.left_out_items() == [] and store.votes_left_out() == 0
    store.leave_out("vote", [again], by="operator", reason=WHY)
    vote(other=True)
    store.refresh_comparisons()
    assert present()[1] is None
    assert [item.id for item in store.left_out_items()] == [again]


def test_a_choice_in_a_trial_that_is_made_again_decides_nothing_until_it_is_taken_in(store, ann):
    shown = in_trial(store, ann)
    ann.choose(shown, "a")
    store.leave_out("vote", choices(store), by="operator", reason=WHY)
    ann.choose(shown, "a")
    assert store.trial_choices(1) == []
    [item] = store.left_out_items()
    store.take_in("vote", [item.id], by="operator")
    assert len(store.trial_choices(1)) == 1


def test_what_is_left_out_is_in_no_count_of_votes(store, ann):
    for kind in ("thumb", "choice", "demonstration"):
        given_again(store, ann, kind)()
    counted = ("thumbs", "choices", "demonstrations")
    assert [store.counts()[name] for name in counted] == [1, 1, 1]
    votes = [one["id"] for one in store.feedback_of("ann") if one["event"] in EVENT_TABLES]
    store.leave_out("vote", votes, by="operator", reason=WHY)
    assert [store.counts()[name] for name in counted] == [0, 0, 0]


def test_a_question_of_a_conversation_that_is_left_out_is_not_asked_again(store, ann):
    asked = ann.ask("and now?")
    assert [*store.prompts_of([asked.id])] == [asked.id]
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    assert store.prompts_of([asked.id]) == {}


def test_a_better_answer_that_is_taken_in_is_new(store):
    ann = said(store)
    last = store.last_numbers()["demonstrations"]

    def new():
        rest = {"numbers": range(last + 1, 999), "most": 9, "seed": "1"}
        splits = ("train", "held_out", "held_out_raters")
        return [row for one in splits for row in store.opinion_pool("demonstrations", one, **rest)]

    assert new() == []
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    store.take_in("conversation", [ann.conversation], by="operator")
    assert len(new()) == 1


def test_an_operator_who_misses_votes_is_told_that_they_are_left_out(store):
    ann = said(store)
    store.leave_out("vote", choices(store)[:2], by="operator", reason=WHY)
    assert "2 votes of 1 rater that the operator left out" in store.left_out().lines()[0]
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    assert "5 votes of 1 rater that the operator left out" in store.left_out().lines()[0]
    assert store.votes_left_out() == 5


def test_it_is_listed_with_who_when_and_why_and_each_is_in_the_audit_log(store):
    ann = said(store)
    [vote] = choices(store)[:1]
    store.leave_out("vote", [vote], by="operator", reason=WHY)
    store.leave_out("conversation", [ann.conversation], by="key of Eve", reason="two\n lines")
    newest, oldest = store.left_out_items()
    assert (newest.kind, newest.said, newest.by) == ("conversation", "conversation", "key of Eve")
    assert newest.reason == "two lines" and newest.question == "question 0 of ann"
    assert (oldest.said, oldest.id, oldest.rater_id) == ("choice", vote, "ann")
    assert oldest.conversation_id == ann.conversation
    assert store.left_out_items(before=newest.place) == [oldest]
    store.take_in("vote", [vote], by="operator")
    entries = {entry.action: entry.detail for entry in store.audit_log()}
    assert entries["leave_out"]["rater_id"] == entries["take_in"]["rater_id"] == "ann"
    assert store.why_left_out("vote", vote) is None
    assert store.why_left_out("conversation", ann.conversation) == "two lines"


def test_leaving_out_twice_keeps_the_date_and_takes_the_new_reason(store):
    said(store)
    for reason in ("first", "second"):
        store.leave_out("vote", choices(store)[:1], by="operator", reason=reason)
    [item] = store.left_out_items()
    first = store.audit_log(action="leave_out")[-1]
    assert item.reason == "second" and item.at <= first.at


@pytest.mark.parametrize("reason", ["", " \n", "x" * (MOST_REASON + 1)])
def test_a_reason_is_one_line_and_not_missing(store, reason):
    said(store)
    with pytest.raises(InvalidFeedbackError, match="reason"):
        store.leave_out("vote", choices(store)[:1], by="operator", reason=reason)


def test_what_is_not_there_is_not_left_out_and_nothing_else_either(store):
    said(store)
    with pytest.raises(UnknownRecordError, match="no vote 'nothing'"):
        store.leave_out("vote", [*choices(store)[:1], "nothing"], by="operator", reason=WHY)
    assert store.left_out_items() == []
    with pytest.raises(ConflictError, match="not left out"):
        store.take_in("vote", choices(store), by="operator")


def test_what_its_owner_deletes_is_listed_no_more(store):
    ann = said(store)
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    store.delete_conversation("ann", ann.conversation)
    assert store.left_out_items() == []
    store.restore_conversation("ann", ann.conversation)
    assert len(store.left_out_items()) == 1 and store.comparisons() == []


def test_forgetting_a_rater_forgets_what_was_left_out_of_theirs(store):
    ann, bob = said(store), said(store, "bob")
    store.leave_out("vote", choices(store)[:1], by="operator", reason=WHY)
    store.leave_out("conversation", [ann.conversation, bob.conversation], by="it", reason=WHY)
    assert store.forget("ann").rows["left_out"] == 2
    assert [item.id for item in store.left_out_items()] == [bob.conversation]
    assert {entry.detail["rater_id"] for entry in store.audit_log(action="leave_out")} == {"bob"}


def test_a_backup_keeps_what_is_left_out(store, tmp_path):
    ann = said(store)
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    store.backup(tmp_path / "backup.db")
    FeedbackStore.restore(tmp_path / "backup.db", tmp_path / "restored.db")
    with FeedbackStore(tmp_path / "restored.db") as restored:
        assert restored.left_out_items() == store.left_out_items()
        assert restored.comparisons() == []


@given(out=st.sets(st.integers(0, 4)), whole=st.booleans())
@settings(max_examples=10)
def test_event_files_carry_what_is_left_out_and_are_the_same_lines_again(
    tmp_path_factory, out, whole
):
    folder = tmp_path_factory.mktemp("files")
    with FeedbackStore(folder / "one.db") as one, FeedbackStore(folder / "two.db") as two:
        ann = said(one)
        votes = [event["id"] for event in one.feedback_of("ann")]
        if chosen := [votes[number] for number in sorted(out)]:
            one.leave_out("vote", chosen, by="operator", reason=WHY)
        if whole:
            one.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
        lines = list(one.export_events())
        two.import_events(lines)
        two.refresh_comparisons()
        assert list(two.export_events()) == lines
        assert {c.id for c in two.comparisons()} == {c.id for c in one.comparisons()}
        assert two.left_out_items() == one.left_out_items()
        two.import_events(lines)
        assert two.left_out_items() == one.left_out_items()


def test_an_import_does_not_leave_out_again_what_was_taken_in_here(store, tmp_path):
    ann = said(store)
    store.leave_out("conversation", [ann.conversation], by="operator", reason=WHY)
    lines = list(store.export_events())
    store.take_in("conversation", [ann.conversation], by="operator")
    store.import_events(lines)
    assert store.left_out_items() == []
