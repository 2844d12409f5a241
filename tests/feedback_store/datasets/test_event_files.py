import json
import os
import random
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from feedback_store import (
    CandidateReply,
    ConflictError,
    FeedbackStore,
    InvalidFeedbackError,
    StoreUnavailableError,
    UnknownRecordError,
)
from feedback_store.datasets.trl_rows import ExportOptions

SECRET = "Xylophagous-Quokka"


@pytest.fixture
def busy(store, ann, bob):
    """A store with events of every kind, some of them superseded."""
    shown = ann.shown("capital of France?", "Lyon", "Paris")
    ann.choose(shown, "a")
    ann.choose(shown, "b")
    chosen = store.candidates(shown)[1]
    store.add_message(ann.conversation, "user", "thanks", parent_id=chosen.id)
    ranked = bob.shown("name a colour", "blue", "Tuesday", "red")
    store.add_ranking(ranked, bob.rater, [["a", "c"], ["b"]], idempotency_key="r")
    reply = bob.reply(bob.ask("hello"), "go away")
    bob.thumb(reply, 1)
    bob.thumb(reply, -1)
    store.add_demonstration(bob.rater, "hi!", message_id=reply.id, idempotency_key="d1")
    prompt = [{"role": "user", "content": "a month?"}]
    store.add_demonstration(ann.rater, "May", prompt=prompt, idempotency_key="d2")
    # A thumb further down the branch that was chosen: its path holds a candidate.
    later = ann.store.add_message(ann.conversation, "user", "and Italy?", parent_id=chosen.id)
    ann.thumb(ann.reply(later, "Rome"), 1)
    store.refresh_comparisons()
    return store


def lines(store):
    return [json.dumps(event, sort_keys=True) for event in store.export_events()]


def test_every_event_is_exported_once_with_its_key(busy):
    events = list(busy.export_events())
    assert [event["event"] for event in events].count("choice") == 2
    keys = {(event["event"], event["rater_id"], event["idempotency_key"]) for event in events}
    assert len(keys) == len(events) == 8
    assert sum(event["superseded_at"] is not None for event in events) == 2


def test_exporting_importing_and_exporting_gives_the_same_lines(busy, tmp_path):
    exported = lines(busy)
    with FeedbackStore(tmp_path / "other.db") as other:
        assert other.import_events(json.loads(line) for line in exported) == 8
        assert lines(other) == exported
        assert other.verify() == []
        other.refresh_comparisons()
        assert other.comparisons() == busy.comparisons() != []


WHY = ({}, {"tags": ["safer", "it's"]}, {"comment": 'a "so" \n 好'}, {"tags": [], "comment": ""})


def act(store, chance, rater, conversation, key):
    """One thing that a rater may do in a conversation, by chance."""
    asked = store.add_message(conversation, "user", f"question {chance.randrange(3)}?")
    kind = chance.choice(["choice", "ranking", "thumb", "edit", "retry"])
    if kind in ("choice", "ranking"):
        texts = [f"reply {i}" for i in range(2 if kind == "choice" else 3)]
        gold = chance.choice([None, "a"])
        replies = [CandidateReply(text) for text in texts]
        shown, made = store.add_candidates(asked.id, replies, rater_id=rater, gold=gold)
        if kind == "ranking":
            store.add_ranking(shown, rater, [["c"], ["a", "b"]], idempotency_key=key)
        else:
            choice = chance.choice(["a", "b", "tie", "both_bad"])
            first, then = chance.choice(WHY), chance.choice(WHY)
            store.add_choice(shown, rater, choice, strength=2.0, idempotency_key=key, **first)
            store.explain_choice(shown, rater, **then)
            store.add_message(conversation, "user", "go on", parent_id=made[0].id)
        return
    old = store.add_message(conversation, "assistant", "old", parent_id=asked.id)
    if kind == "edit":
        store.add_demonstration(rater, "better", message_id=old.id, idempotency_key=key)
        return
    about = old
    if kind == "retry":
        about = store.add_message(
            conversation, "assistant", "new", parent_id=asked.id, retry_of=old.id
        )
        taken = chance.choice([about, about, old])
        store.add_message(conversation, "user", "go on", parent_id=taken.id)
    for value in chance.choices([1, -1, 0], k=chance.randrange(3)):
        store.add_thumb(about.id, rater, value, idempotency_key=f"{key}{chance.random()}")


@settings(max_examples=25)  # each makes two stores
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_whatever_was_done_goes_out_and_in_again_unchanged(tmp_path_factory, seed, acts):
    chance, folder = random.Random(seed), tmp_path_factory.mktemp("stores")
    with FeedbackStore(folder / "one.db") as one, FeedbackStore(folder / "two.db") as two:
        raters = [one.add_rater(name, consent="1").id for name in ("ann", "bob")]
        with one._file.write() as db:
            db.execute("UPDATE raters SET held_out = 1, reliability = 0.5 WHERE id = 'bob'")
        conversations = [one.add_conversation(rater).id for rater in raters]
        for number in range(acts):
            who = chance.randrange(2)
            act(one, chance, raters[who], conversations[who], f"key {number}")
        exported = lines(one)
        two.import_events(json.loads(line) for line in exported)
        assert lines(two) == exported
        assert two.verify() == []
        for store in (one, two):
            store.refresh_comparisons()
        assert two.comparisons() == one.comparisons()
        assert two.unpaired() == one.unpaired()


def choices(store):
    return [(choice.tags, choice.comment) for choice in store.choices()]


def test_a_file_from_before_reasons_is_read_and_leaves_those_that_were_given_here(
    store, ann, tmp_path
):
    shown = ann.shown("hello", "x", "y")
    store.add_choice(shown, ann.rater, "a", strength=2.0, idempotency_key="k")
    old = [{k: v for k, v in event.items() if k not in ("tags", "comment")} for event in _of(store)]
    with FeedbackStore(tmp_path / "other.db") as other:
        assert other.import_events(old) == 1
        assert lines(other) == lines(store)
    store.explain_choice(shown, ann.rater, tags=["clearer"], comment="so")
    assert store.import_events(old) == 0
    assert choices(store) == [(("clearer",), "so")]


def test_reasons_that_were_given_since_come_with_a_later_file_and_do_not_change_others(
    store, ann, tmp_path
):
    shown = ann.shown("hello", "x", "y")
    ann.choose(shown, "a")
    early = list(_of(store))
    store.explain_choice(shown, ann.rater, tags=["clearer"], comment="so")
    late = list(_of(store))
    with FeedbackStore(tmp_path / "other.db") as other:
        other.import_events(early)
        for events in (late, early, late):
            assert other.import_events(events) == 0
            assert lines(other) == lines(store)
        other.explain_choice(shown, ann.rater, tags=["safer"])
        assert other.import_events(late) == 0
        assert choices(other) == [(("safer",), "so")], "what was said here stays"


def _of(store):
    return [json.loads(line) for line in lines(store)]


def test_candidates_arrive_whole_when_one_of_them_was_judged(store, ann, tmp_path):
    ann.thumb(store.candidates(ann.shown("hello", "x", "y"))[0], 1)
    with FeedbackStore(tmp_path / "other.db") as other:
        other.import_events(store.export_events())
        assert other.verify() == []
        other.backup(tmp_path / "backup.db")
    FeedbackStore.restore(tmp_path / "backup.db", tmp_path / "again.db")


def test_a_third_rater_to_whom_candidates_were_shown_comes_along(store, ann, bob, tmp_path):
    asked = ann.ask("hello")
    _, shown = store.add_candidates(
        asked.id, [CandidateReply("x"), CandidateReply("y")], rater_id=bob.rater
    )
    ann.thumb(shown[0], 1)
    with FeedbackStore(tmp_path / "other.db") as other:
        assert other.import_events(store.export_events()) == 1
        assert other.rater(bob.rater) == store.rater(bob.rater)
        other.forget(bob.rater)
        assert other.import_events(store.export_events()) == 0


def test_the_origin_of_a_rater_stays_at_home(store, ann, bob, tmp_path):
    with store._file.write() as db:
        db.execute("UPDATE raters SET origin = ?", [SECRET])
    asked = ann.ask("hello")
    replies = [CandidateReply("x"), CandidateReply("y")]
    _, shown = store.add_candidates(asked.id, replies, rater_id=bob.rater)
    ann.thumb(shown[0], 1)
    [line] = lines(store)
    assert bob.rater in line
    assert SECRET not in line


def test_importing_twice_changes_nothing(busy):
    exported = lines(busy)
    assert busy.import_events(json.loads(line) for line in exported) == 0
    assert lines(busy) == exported


def test_an_older_export_does_not_bring_a_changed_vote_back(busy, ann):
    old = [json.loads(line) for line in lines(busy)]
    shown = busy.choices()[0].candidates_id
    ann.choose(shown, "tie")
    busy.import_events(old)
    assert [choice.choice for choice in busy.choices()] == ["tie"]


def test_a_newer_export_supersedes_here_what_it_superseded_there(busy, ann, tmp_path):
    with FeedbackStore(tmp_path / "other.db") as other:
        other.import_events(busy.export_events())
        shown = busy.choices()[0].candidates_id
        ann.choose(shown, "tie")
        assert other.import_events(busy.export_events()) == 1
        assert [choice.choice for choice in other.choices()] == ["tie"]


def test_an_import_that_contradicts_is_refused_whole(busy, tmp_path):
    events = [json.loads(line) for line in lines(busy)]
    events[-1]["content"] = "something else"
    with FeedbackStore(tmp_path / "other.db") as other:
        other.import_events(busy.export_events())
        with pytest.raises(ConflictError, match=r"event 8.*another content.*Nothing was imported"):
            other.import_events(events)
        assert lines(other) == lines(busy)


def test_malformed_events_are_refused_whole_and_by_number(busy, tmp_path):
    events = [json.loads(line) for line in lines(busy)]

    def spoilt(kind, change, which=0):
        copy = deepcopy(events)
        change([event for event in copy if event["event"] == kind][which])
        return copy

    wrong = [
        spoilt("thumb", lambda event: event.update(event="applause")),
        spoilt("thumb", lambda event: event.pop("idempotency_key")),
        spoilt("thumb", lambda event: event.update(messages=[]), -1),
        spoilt("thumb", lambda event: event["messages"][0].update(role="robot")),
        spoilt("choice", lambda event: event.update(candidates_id="nowhere")),
        spoilt("choice", lambda event: event.update(strength=float("inf"))),
        spoilt("ranking", lambda event: event["messages"].pop(-2)),
        spoilt("ranking", lambda event: event.update(order=[["a"]])),
        spoilt("demonstration", lambda event: event.update(prompt=[])),
        [*events, "not an event"],
    ]
    with FeedbackStore(tmp_path / "other.db") as other:
        for attempt in wrong:
            with pytest.raises((InvalidFeedbackError, ConflictError, UnknownRecordError)) as error:
                other.import_events(attempt)
            assert "\n" not in str(error.value)
            assert other.counts()["raters"] == 0


def test_preferences_are_in_trls_format_without_ties(busy, ann):
    ann.choose(ann.shown("tea or coffee?", "tea", "coffee"), "tie")
    busy.refresh_comparisons()
    rows = list(busy.export_rows("preference", ExportOptions(split="all")))
    assert all(row.keys() == {"prompt", "chosen", "rejected"} for row in rows)
    assert {
        "prompt": [{"role": "user", "content": "capital of France?"}],
        "chosen": [{"role": "assistant", "content": "Paris"}],
        "rejected": [{"role": "assistant", "content": "Lyon"}],
    } in rows
    assert "coffee" not in json.dumps(rows)
    ties = sum(item.label == "tie" for item in busy.comparisons())
    assert len(rows) == len(busy.comparisons()) - ties
    held_out = list(busy.export_rows("preference", ExportOptions(split="held_out")))
    assert len(held_out) < len(rows)


def leave_traces(store, chat, text):
    """Write a text wherever a rater's words may end up, and let a cycle use them."""
    shown = chat.shown(text, f"{text} a", f"{text} b")
    chat.choose(shown, "a")
    reply = store.candidates(shown)[0]
    store.add_thumb(reply.id, chat.rater, 1, comment=text, tags=[text], idempotency_key=text)
    store.add_demonstration(chat.rater, text, message_id=reply.id, idempotency_key="d")
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
    store.finish_cycle(cycle.id, state="promoted")
    return shown


def test_a_forgotten_rater_leaves_no_byte_and_others_keep_everything(store, ann, bob, path):
    leave_traces(store, ann, SECRET)
    leave_traces(store, bob, "harmless")
    for _ in range(20):
        store.add_message(ann.conversation, "user", SECRET * 500)  # whole pages of it
    kept = lines(store)
    erased = store.forget(ann.rater).rows
    assert (erased["messages"], erased["thumbs"], erased["raters"]) == (23, 1, 1)
    files = list(path.parent.glob("feedback.db*"))
    assert len(files) >= 2
    assert not any(SECRET.encode() in file.read_bytes() for file in files)
    with Database(path) as db:
        assert db.execute("PRAGMA freelist_count").fetchone()[0] == 0
    assert lines(store) == [line for line in kept if SECRET not in line] != kept
    assert store.verify() == []
    assert {item.rater_id for item in store.comparisons()} == {"bob"}
    with pytest.raises(UnknownRecordError):
        store.forget(ann.rater)


def test_others_judgements_of_the_forgotten_words_go_too(store, ann, bob, path):
    shown = leave_traces(store, ann, SECRET)
    store.add_choice(shown, bob.rater, "b", idempotency_key="c")
    reply = store.candidates(shown)[1]
    store.add_demonstration(bob.rater, "better", message_id=reply.id, idempotency_key="d")
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, [item.id for item in store.comparisons()])
    store.finish_cycle(cycle.id, state="promoted")
    store.forget(ann.rater)
    assert store.comparisons() == []
    assert store.feedback_of(bob.rater) == []
    store.close()
    assert SECRET.encode() not in path.read_bytes()


def test_forgetting_while_another_connection_reads_says_what_is_left_to_do(
    store, ann, path, monkeypatch
):
    monkeypatch.setattr("feedback_store.sqlite.database.BUSY_TIMEOUT_MS", 100)
    monkeypatch.setattr("feedback_store.privacy.forgetting._TRIES", 2)
    ann.ask(SECRET)
    with FeedbackStore(path) as impatient:
        with Database(path) as reader:
            reader.begin()
            reader.execute("SELECT count(*) FROM messages").fetchone()
            with pytest.raises(StoreUnavailableError, match="let it finish"):
                impatient.forget(ann.rater)
        impatient.compact()
    files = path.parent.glob("feedback.db*")
    assert not any(SECRET.encode() in file.read_bytes() for file in files)
