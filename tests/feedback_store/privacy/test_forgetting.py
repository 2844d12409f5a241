"""Consent, forgetting, retention: what must not be handed out, and what must be gone."""

import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils.utils import sqlite3

from feedback_store import (
    CandidateReply,
    CycleInProgressError,
    FeedbackStore,
    InvalidFeedbackError,
    UnknownRecordError,
)
from feedback_store.datasets.trl_rows import ExportOptions
from feedback_store.privacy.copies import rater_hash
from feedback_store.privacy.forgetting import is_forgotten
from feedback_store.sqlite.ids import iso_utc

RATERS = ("ann", "bob", "eve")
TEXT_FORMS = ("preference", "unpaired", "sft", "prompts")
ALL = ExportOptions(split="all")


def everything(path):
    """Every row of every table, as text."""
    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    found = [
        (table, row)
        for (table,) in tables
        for row in connection.execute(f'SELECT * FROM "{table}"').fetchall()
    ]
    connection.close()
    return found


def bytes_on_disk(path):
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


# Consent


class Talk:
    """Raters who chat and judge, each text naming whose it is."""

    def __init__(self, store):
        self.store, self.keys = store, count()
        self.conversations = {}
        for rater in RATERS:
            store.add_rater(rater, consent="v1")
            self.conversations[rater] = store.add_conversation(rater).id
        self.replies = {rater: [] for rater in RATERS}
        self.shown = []

    def do(self, act, rater, owner):
        """One act of `rater`, on a reply in the conversation of `owner`."""
        if act == "ask":
            question = self.store.add_message(self.conversations[owner], "user", "the same")
            for _ in range(2):
                text = f"of {owner} {next(self.keys)}"
                reply = self.store.add_message(
                    self.conversations[owner], "assistant", text, parent_id=question.id
                )
                self.replies[owner].append(reply.id)
        elif act == "show":
            question = self.store.add_message(self.conversations[owner], "user", "the same")
            texts = [CandidateReply(f"of {owner} {next(self.keys)}") for _ in range(2)]
            self.shown.append(self.store.add_candidates(question.id, texts, rater_id=owner)[0])
        elif act == "consent":
            self.store.set_consent(rater, "v1")
        elif act == "withdraw":
            self.store.refresh_comparisons()
            self.store.set_consent(rater, None)
        else:
            self.judge(act, rater, owner)

    def judge(self, act, rater, owner):
        key, replies = str(next(self.keys)), self.replies[owner]
        if act in ("up", "down") and replies:
            value = 1 if act == "up" else -1
            reply = replies[-1 if act == "up" else 0]
            self.store.add_thumb(reply, rater, value, idempotency_key=key)
        elif act == "write" and replies:
            self.store.add_demonstration(
                rater, f"of {rater} {key}", message_id=replies[0], idempotency_key=key
            )
        elif act == "choose" and self.shown:
            self.store.add_choice(self.shown[-1], rater, "a", idempotency_key=key)
        elif act == "tell":
            prompt = [{"role": "user", "content": f"of {rater} {key}"}]
            text = f"of {rater} {key}"
            self.store.add_demonstration(rater, text, prompt=prompt, idempotency_key=key)


def handed_out(store):
    """All that can be learnt from, as text, and by whose judgement."""
    found = [*store.comparisons(), *store.unpaired(), *store.demonstrations()]
    rows = [row for form in TEXT_FORMS for row in store.export_rows(form, ALL)]
    raters = {item.rater_id for item in found}
    raters |= {item.other_rater_id for item in store.comparisons() if item.other_rater_id}
    return json.dumps(rows) + repr(found), raters


ACTS = ("ask", "show", "consent", "withdraw", "up", "down", "choose", "write", "tell")
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTS), st.sampled_from(RATERS), st.sampled_from(RATERS)),
    min_size=5,
    max_size=25,
)


def check_that_nothing_leaks(steps):
    with TemporaryDirectory() as folder, FeedbackStore(Path(folder) / "feedback.db") as store:
        talk = Talk(store)
        for act, rater, owner in (*steps, ("withdraw", "ann", "ann")):
            talk.do(act, rater, owner)
            if act != "withdraw":
                continue
            text, raters = handed_out(store)  # what was derived before is not derived again
            for rater_id in RATERS:
                if store.rater(rater_id).consent is None:
                    assert f"of {rater_id} " not in text
                    assert rater_id not in raters


@settings(max_examples=20)
@given(steps=STEPS)
def test_no_word_or_judgement_of_one_without_consent_is_handed_out(steps):
    check_that_nothing_leaks(steps)


@pytest.mark.slow
@settings(max_examples=300)
@given(steps=STEPS)
def test_nothing_leaks_in_hundreds_of_sequences(steps):
    check_that_nothing_leaks(steps)


def test_what_those_with_consent_say_of_their_own_is_handed_out(store):
    talk = Talk(store)
    acts = ("consent", "ask", "up", "down", "show", "choose", "write", "tell")
    for rater in ("ann", "bob"):
        for act in acts:
            talk.do(act, rater, rater)
    store.refresh_comparisons()
    assert handed_out(store)[1] == {"ann", "bob"}
    store.set_consent("bob", None)
    text, raters = handed_out(store)
    assert raters == {"ann"}
    assert "of ann " in text


def test_judging_the_words_of_one_who_has_not_agreed_hands_them_to_nobody(store):
    talk = Talk(store)
    talk.do("ask", "eve", "eve")
    for act in ("up", "down", "write"):
        talk.do(act, "ann", "eve")
    store.set_consent("eve", None)
    store.refresh_comparisons()
    assert "of eve " not in handed_out(store)[0]
    store.set_consent("eve", "v1")
    assert "of eve " in handed_out(store)[0]


# Forgetting


def say_everything(store, rater_id, text):
    """Have a rater leave a text wherever one can; the cycle that used it and its adapters."""
    store.add_rater(rater_id, consent="v1")
    conversation = store.add_conversation(rater_id, title=text).id
    asked = store.add_message(conversation, "user", text)
    old, new = (
        store.add_message(conversation, "assistant", f"{text} {n}", parent_id=asked.id)
        for n in range(2)
    )
    again = store.add_message(
        conversation, "assistant", f"{text} 3", parent_id=asked.id, retry_of=old.id
    )
    store.add_thumb(old.id, rater_id, -1, tags=[text], comment=text, idempotency_key=f"{text}1")
    store.add_thumb(new.id, rater_id, 1, idempotency_key=f"{text}2")
    store.add_thumb(again.id, rater_id, 1, idempotency_key=f"{text}3")
    shown = [
        store.add_candidates(
            asked.id, [CandidateReply(f"{text} {label}") for label in labels], rater_id=rater_id
        )[0]
        for labels in ("ab", "abc")
    ]
    store.add_choice(shown[0], rater_id, "both_bad", idempotency_key=text)
    store.add_ranking(shown[1], rater_id, [["b"], ["a", "c"]], idempotency_key=text)
    store.add_demonstration(rater_id, text, message_id=old.id, idempotency_key=f"{text}1")
    prompt = [{"role": "user", "content": text}]
    store.add_demonstration(rater_id, text, prompt=prompt, idempotency_key=f"{text}2")
    store.refresh_comparisons()
    return conversation, old.id


def run_cycle(store, *, rater_id=None, parent=None):
    """A cycle that uses the comparisons of one rater, or none; the names of its adapters."""
    cycle = store.start_cycle({}, pid=os.getpid())
    used = [item.id for item in store.comparisons() if item.rater_id == rater_id]
    store.use_comparisons(cycle.id, used)
    number = store.next_adapter_number()
    for kind in ("reward", "policy"):
        name = f"{kind}-{number:06d}"
        store.register_adapter(name, kind=kind, parent=parent, cycle_id=cycle.id)
    store.finish_cycle(cycle.id, state="promoted", adapter=name)
    return f"reward-{number:06d}", f"policy-{number:06d}"


def tainted(store):
    return {item.name for item in store.adapters() if item.tainted_at is not None}


def test_a_forgotten_rater_is_in_no_row_of_any_table(store, path):
    store.add_rater("rater-of-magpie", origin="origin of magpie")
    say_everything(store, "rater-of-magpie", "magpie")
    say_everything(store, "bob", "harmless")
    run_cycle(store, rater_id="rater-of-magpie")
    store.set_consent("rater-of-magpie", "v2")
    erased = store.forget("rater-of-magpie")
    assert erased.rows["thumbs"] == 3
    assert erased.rows["retries"] == erased.rows["rankings"] == erased.rows["choices"] == 1
    assert erased.rows["demonstrations"] == 2
    assert not [found for found in everything(path) if "magpie" in repr(found)]
    assert b"magpie" not in bytes_on_disk(path)
    assert b"harmless" in bytes_on_disk(path)
    assert store.verify() == []


def test_what_others_said_elsewhere_is_untouched(store, path):
    _, theirs = say_everything(store, "ann", "magpie")
    say_everything(store, "bob", "harmless")
    run_cycle(store, rater_id="bob")
    before = store.feedback_of("bob"), store.comparisons(), store.unpaired()
    kept = [[item for item in found if item.rater_id == "bob"] for found in before[1:]]
    store.add_thumb(theirs, "bob", -1, comment="magpie", idempotency_key="of ann's")
    store.refresh_comparisons()
    store.forget("ann")
    assert (store.feedback_of("bob"), store.comparisons(), store.unpaired()) == (before[0], *kept)
    assert b"magpie" not in bytes_on_disk(path)


def test_the_adapters_that_learnt_from_a_rater_are_named_and_stay_marked(store, path):
    say_everything(store, "bob", "harmless")
    untouched = run_cycle(store, rater_id="bob")
    say_everything(store, "ann", "magpie")
    first = run_cycle(store, rater_id="ann", parent=untouched[1])
    second = run_cycle(store, parent=first[1])
    erased = store.forget("ann")
    # the second cycle may have imitated the demonstrations, and goes on from the first's policy
    assert set(erased.adapters) == tainted(store) == {*first, *second}
    third = run_cycle(store, rater_id="bob", parent=second[1])
    with FeedbackStore(path) as again:
        marked = again.adapter(first[1]).tainted_at
        assert marked is not None
        say_everything(again, "eve", "other")
        assert again.forget("eve").adapters == ()
        assert again.adapter(first[1]).tainted_at == marked
        assert not tainted(again) & {*untouched, *third}
        assert set(again.forget("bob").adapters) == {*untouched, *first, *second, *third}
        assert again.adapter(first[1]).tainted_at == marked


def test_adapters_of_cycles_that_never_saw_the_rater_are_not_marked(store):
    say_everything(store, "bob", "harmless")
    before = run_cycle(store, rater_id="bob")
    say_everything(store, "ann", "magpie")
    assert set(store.forget("ann").adapters) == set()
    assert tainted(store) == set() != set(before)


def test_the_adapters_that_may_have_learnt_from_a_lonely_thumb_are_marked(store):
    say_everything(store, "bob", "harmless")
    before = run_cycle(store, rater_id="bob")
    rater = store.add_rater("ann", kind="simulated").id
    conversation = store.add_conversation(rater).id
    asked = store.add_message(conversation, "user", "magpie")
    reply = store.add_message(conversation, "assistant", "reply", parent_id=asked.id)
    store.add_thumb(reply.id, rater, 1, idempotency_key="lonely")
    after = run_cycle(store, rater_id="bob")
    assert set(store.forget("ann").adapters) == set(after) != set(before)


class InterruptionError(Exception):
    pass


def interrupt_at(call):
    """A `clean` that fails at its call of this number, and counts one file at each other."""
    calls = count(1)

    def clean(found):
        if next(calls) == call:
            raise InterruptionError
        return {"exports": 1}

    return clean


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_forgetting_is_known_and_finished_by_the_same_call(store, path, call):
    say_everything(store, "ann", "magpie")
    run_cycle(store, rater_id="ann")
    with pytest.raises(InterruptionError):
        store.forget("ann", clean=interrupt_at(call))
    assert [item.done_at for item in store.forgotten()] == [None]
    with FeedbackStore(path) as other:
        erased = other.forget("ann")
    assert erased.rows["thumbs"] == 3
    assert len(erased.adapters) == 2
    assert [item.done_at is None for item in store.forgotten()] == [False]
    assert b"magpie" not in bytes_on_disk(path)
    with pytest.raises(UnknownRecordError):
        store.forget("ann")


@pytest.mark.parametrize("call", [1, 2])
def test_whatever_is_unfinished_can_be_finished_without_the_id(store, path, call):
    say_everything(store, "rater-of-magpie", "magpie")
    with pytest.raises(InterruptionError):
        store.forget("rater-of-magpie", clean=interrupt_at(call))
    [pending] = store.forgotten()
    assert store.finish_forgetting(pending.rater).rows["raters"] == 1
    assert [item.done_at is None for item in store.forgotten()] == [False]
    assert b"magpie" not in bytes_on_disk(path)


def test_nothing_is_learnt_from_a_rater_whose_forgetting_was_interrupted(store):
    say_everything(store, "ann", "magpie")
    store.refresh_comparisons()
    assert store.comparisons()
    with pytest.raises(InterruptionError):
        store.forget("ann", clean=interrupt_at(1))
    assert store.comparisons() == store.unpaired() == []
    assert store.rater("ann").consent is None


def test_a_sweep_that_died_before_the_file_was_rewritten_is_finished_by_the_next(
    store, path, monkeypatch
):
    old, _ = say_everything(store, "ann", "magpie")
    make_older(store, old, 31)

    def killed(file):
        raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr("feedback_store.privacy.forgetting.compact", killed)
        with pytest.raises(InterruptionError):
            store.sweep(older_than_days=30)
    with FeedbackStore(path) as other:
        assert other.compaction_due()
        assert other.sweep(older_than_days=30) == {}
        assert not other.compaction_due()


def test_files_are_cleaned_since_the_raters_first_row_before_and_after_the_rows(store):
    ann = store.add_rater("ann")
    seen = []

    def clean(found):
        seen.append((found.since, any(store.conversations("ann"))))
        return {"exports": len(seen)}

    store.add_conversation("ann")
    assert store.forget("ann", clean=clean).files == {"exports": 3}
    assert seen == [(ann.created_at, True), (ann.created_at, False)]


def test_nobody_is_forgotten_or_swept_while_a_cycle_reads(store):
    say_everything(store, "ann", "magpie")
    cycle = store.start_cycle({}, pid=os.getpid())
    with pytest.raises(CycleInProgressError, match="cycle 1"):
        store.forget("ann")
    with pytest.raises(CycleInProgressError, match="cycle 1"):
        store.sweep(older_than_days=1)
    assert store.forgotten() == []
    store.finish_cycle(cycle.id, state="failed")
    assert store.forget("ann").rows["raters"] == 1


def test_an_import_does_not_bring_a_forgotten_rater_back(store, tmp_path):
    _, theirs = say_everything(store, "ann", "magpie")
    say_everything(store, "bob", "harmless")
    store.add_thumb(theirs, "bob", 1, idempotency_key="of ann's")
    old = list(store.export_events())
    store.forget("ann")
    left_out = Counter()
    assert store.import_events(old, left_out=left_out) == 0
    mine = sum(event["rater_id"] == "bob" for event in old) - 1
    assert left_out.total() == len(old) - mine
    assert [item for item in everything(store._file.path) if "magpie" in repr(item)] == []
    with pytest.raises(UnknownRecordError):
        store.rater("ann")
    with store._file.read() as db:
        assert is_forgotten(db, "ann")
        assert not is_forgotten(db, "bob")
    with FeedbackStore(tmp_path / "other.db") as other:
        assert other.import_events(old) == len(old)


def test_a_forgotten_person_may_come_back_and_be_forgotten_again(store, path):
    for _ in range(2):
        say_everything(store, "ann", "magpie")
        assert store.forget("ann").rows["raters"] == 1
    assert [item.rater for item in store.forgotten()] == [rater_hash("ann")]
    assert b"magpie" not in bytes_on_disk(path)


def test_what_was_done_for_or_by_a_forgotten_rater_names_nobody(store, path, tmp_path):
    say_everything(store, "rater-of-magpie", "magpie")
    target = tmp_path / "elsewhere" / "file.jsonl"
    store.export_file(target, "events")
    store.note_backup("/backups/one")
    store.add_rater("bob")
    store.quarantine("bob", by="rater-of-magpie", reason="spam")
    store.forget("rater-of-magpie")
    assert [item.decided_by for item in store.raters()] == ["forgotten"]
    assert [(item.kind, item.path) for item in store.copies()] == [
        ("export", str(target)),
        ("backup", "/backups/one"),
    ]
    assert not [found for found in everything(path) if "magpie" in repr(found)]


# Retention


def make_older(store, conversation, days):
    """Move a conversation into the past, and its rater, unless they are older."""
    then = iso_utc(datetime.now(UTC) - timedelta(days=days))
    with store._file.write() as db:
        sql = """UPDATE raters SET created_at = min(created_at, ?)
            WHERE id = (SELECT rater_id FROM conversations WHERE id = ?)"""
        db.execute(sql, [then, conversation])
        for table, key in (("conversations", "id"), ("messages", "conversation_id")):
            db.execute(f"UPDATE {table} SET created_at = ? WHERE {key} = ?", [then, conversation])


def test_old_conversations_go_with_all_that_was_said_of_them(store, path):
    old, reply = say_everything(store, "ann", "magpie")
    say_everything(store, "bob", "harmless")
    store.add_thumb(reply, "bob", 1, comment="magpie", idempotency_key="of ann's")
    store.refresh_comparisons()
    run_cycle(store, rater_id="ann")
    with store._file.write() as db:  # a demonstration to a prompt is in no conversation
        db.execute("DELETE FROM demonstrations WHERE message_id IS NULL")
    make_older(store, old, 31)
    before = store.feedback_of("bob")
    counted = store.sweep(older_than_days=30, dry_run=True)
    swept = store.sweep(older_than_days=30)
    assert counted == {name: swept[name] for name in counted}
    assert (swept["conversations"], swept["messages"], swept["thumbs"]) == (1, 9, 4)
    assert store.sweep(older_than_days=30) == {}
    assert b"magpie" not in bytes_on_disk(path)
    assert {item.rater_id for item in store.comparisons()} == {"bob"}
    assert store.feedback_of("bob") == [item for item in before if "magpie" not in repr(item)]
    assert store.rater("ann").consent == "v1"
    assert store.verify() == []
    notes = [json.loads(row[3]) for table, row in everything(path) if table == "audit"]
    assert [note["conversations"] for note in notes if "before" in note] == [1]


def sweep_away(store, conversation):
    """Have a sweep delete it, and leave nothing else that could tell what adapters learnt from."""
    make_older(store, conversation, 31)
    assert store.sweep(older_than_days=30)["conversations"] == 1
    with store._file.write() as db:  # a demonstration to a prompt is in no conversation
        db.execute("DELETE FROM demonstrations WHERE message_id IS NULL")


def test_the_adapters_that_learnt_from_a_rater_are_named_after_a_sweep_too(store, path):
    say_everything(store, "bob", "harmless")
    before = run_cycle(store, rater_id="bob")
    old, _ = say_everything(store, "rater-of-magpie", "magpie")
    first = run_cycle(store, rater_id="rater-of-magpie", parent=before[1])
    sweep_away(store, old)
    second = run_cycle(store, rater_id="bob", parent=first[1])
    assert tainted(store) == set()
    # the second reward model was trained afresh, from what was left
    assert set(store.forget("rater-of-magpie").adapters) == {*first, second[1]}
    assert tainted(store) == {*first, second[1]}
    assert not [found for found in everything(path) if "magpie" in repr(found)]
    assert b"magpie" not in bytes_on_disk(path)
    assert store.verify() == []
    assert set(store.forget("bob").adapters) == {*before, *first, *second}


@pytest.mark.parametrize("rater", ["judge", "owner"])
@pytest.mark.parametrize("goes", ["conversation", "other rater"])
def test_who_judged_and_whose_words_they_were_is_known_when_the_words_are_gone(store, rater, goes):
    for name in ("judge", "owner"):
        store.add_rater(name, consent="v1")
    conversation = store.add_conversation("owner").id
    asked = store.add_message(conversation, "user", "hello")
    replies = [CandidateReply(text) for text in "xy"]
    shown, _ = store.add_candidates(asked.id, replies, rater_id="judge")
    store.add_choice(shown, "judge", "a", idempotency_key="k")
    store.refresh_comparisons()
    learnt = run_cycle(store, rater_id="judge")
    if goes == "conversation":
        sweep_away(store, conversation)
    else:
        store.forget("owner" if rater == "judge" else "judge")
    assert set(store.forget(rater).adapters) == tainted(store) == set(learnt)


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_forgetting_after_a_sweep_still_names_the_adapters(store, call):
    old, _ = say_everything(store, "ann", "magpie")
    learnt = run_cycle(store, rater_id="ann")
    sweep_away(store, old)
    with pytest.raises(InterruptionError):
        store.forget("ann", clean=interrupt_at(call))
    [pending] = store.forgotten()
    finished = store.finish_forgetting(pending.rater)
    assert set(finished.adapters) == tainted(store) == set(learnt)


@settings(max_examples=20)
@given(ages=st.lists(st.integers(0, 60), max_size=8), days=st.integers(1, 59))
def test_exactly_the_conversations_without_a_younger_message_are_swept(ages, days):
    with TemporaryDirectory() as folder, FeedbackStore(Path(folder) / "feedback.db") as store:
        store.add_rater("ann")
        kept = set()
        for age in ages:
            conversation = store.add_conversation("ann").id
            store.add_message(conversation, "user", f"word{age}")
            make_older(store, conversation, age + 0.5)
            if age % 2:  # an old conversation that went on
                store.add_message(conversation, "user", "and now")
            if age % 2 or age < days:
                kept.add(conversation)
        store.sweep(older_than_days=days)
        assert {item.id for item in store.conversations("ann")} == kept
        assert {hit.conversation_id for age in ages for hit in store.search(f"word{age}")} == kept


def test_an_imported_conversation_is_as_old_as_its_import_and_not_as_its_data_set(store):
    sides = {
        f"conversation_{name}": [
            {"role": "user", "content": "Capital of France?"},
            {"role": "assistant", "content": reply},
        ]
        for name, reply in (("a", "Paris"), ("b", "Lyon"))
    }
    vote = {"question_id": "q", "model_a": "x", "model_b": "y", "winner": "model_a", "judge": "j"}
    april_2023 = {"turn": 1, "anony": True, "tstamp": 1682351591.1}
    assert store.import_documents([(1, vote | sides | april_2023)], "arena").new == 1
    [choice] = store.choices()
    assert choice.created_at.startswith("2023-04")
    assert store.sweep(older_than_days=365, dry_run=True)["conversations"] == 0
    assert store.sweep(older_than_days=365) == {}
    assert store.choices() == [choice]
    with store._file.write() as db:
        then = iso_utc(datetime.now(UTC) - timedelta(days=366))
        db.execute("UPDATE raters SET created_at = ?", [then])
    assert store.sweep(older_than_days=365)["conversations"] == 1
    assert store.choices() == []


def test_many_conversations_are_swept_in_parts(store, monkeypatch):
    monkeypatch.setattr("feedback_store.privacy.forgetting.SWEPT_AT_ONCE", 3)
    store.add_rater("ann")
    for _ in range(8):
        make_older(store, store.add_conversation("ann").id, 10)
    assert store.sweep(older_than_days=9)["conversations"] == 8


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf"), 1e9])
def test_a_senseless_number_of_days_is_refused(store, days):
    with pytest.raises(InvalidFeedbackError, match="days"):
        store.sweep(older_than_days=days)
