"""The list of conversations is its rater's own, and deleting one can be undone without a trace."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback_store import (
    CandidateReply,
    ConflictError,
    FeedbackStore,
    InvalidFeedbackError,
    PromptMessage,
    UnknownRecordError,
)
from feedback_store.comparisons.receipts import DELETED, SUPERSEDED
from feedback_store.errors import FeedbackStoreError
from feedback_store.feedback.conversation_list import MOST_TITLE
from feedback_store.feedback.gold_questions import GoldItem
from feedback_store.feedback.search import MOST_WORDS
from feedback_store.privacy.forgetting import DELETED_DAYS
from feedback_store.sqlite.ids import iso_utc
from tests.feedback_store.conftest import Chat

ONE_STORE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
WORDS = st.lists(
    st.text(st.characters(categories=["L", "N"], max_codepoint=0x2FF), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)


def conversation(store, rater, *texts, title=""):
    """A conversation with these messages of the rater, each with a reply."""
    begun = store.add_conversation(rater, title=title)
    above = None
    for text in texts:
        asked = store.add_message(begun.id, "user", text, parent_id=above.id if above else None)
        above = store.add_message(
            begun.id, "assistant", f"replied to {asked.id}", parent_id=asked.id
        )
    return begun.id


def listed(store, rater, query=""):
    return [one.id for one in store.conversations(rater, query)]


def derived(store):
    """All that may be learnt from, without the numbers that say when it came."""
    store.refresh_comparisons()
    demonstrations = [
        one["id"]
        for one in store.feedback_of("ann")
        if one["event"] == "demonstration" and one["superseded_at"] is None
    ]
    return store.comparisons(), store.unpaired(), demonstrations


def votes_of_every_kind(store, ann):
    """Six votes, of every kind, in Ann's conversation; returns the id of a reply in it."""
    asked = ann.ask("capital of France?")
    good, bad = ann.reply(asked, "Paris"), ann.reply(asked, "Lyon")
    ann.thumb(good, 1)
    ann.thumb(bad, -1)
    ann.thumb(ann.reply(ann.ask("sky?"), "blue"), 1)
    ann.choose(ann.shown("2 + 2?", "4", "5"), "a")
    three = ann.shown("3 + 3?", "6", "7", "8")
    store.add_ranking(three, "ann", [["a"], ["b", "c"]])
    store.add_demonstration("ann", "Paris, of course", message_id=bad.id)
    return good.id


def test_pinned_conversations_come_first_and_then_the_last_used(store, ann):
    first, second, third = (conversation(store, "ann", text) for text in ("one", "two", "three"))
    ann.conversation = first
    time.sleep(0.002)  # times have milliseconds
    ann.ask("again")
    assert listed(store, "ann")[:3] == [first, third, second]
    assert store.pin_conversation("ann", second, True).pinned
    assert listed(store, "ann")[:3] == [second, first, third]
    assert not store.pin_conversation("ann", second, False).pinned
    assert listed(store, "ann")[:3] == [first, third, second]


def test_a_conversation_was_used_when_its_last_message_came(store, ann):
    empty = store.conversations("ann")[0]
    assert empty.updated_at == empty.created_at
    said = ann.ask("hello")
    assert store.conversations("ann")[0].updated_at == said.created_at
    view = store.conversation_view("ann", conversation_id=ann.conversation)
    assert view.conversation == store.conversations("ann")[0]
    assert store.add_conversation("ann", conversation_id=ann.conversation) == view.conversation


def test_a_new_title_is_one_line_that_is_found(store, ann):
    store.pin_conversation("ann", ann.conversation, True)
    renamed = store.rename_conversation("ann", ann.conversation, "  Our\ntrip to  Zürich ")
    assert renamed == store.conversations("ann")[0]
    assert (renamed.title, renamed.pinned) == ("Our trip to Zürich", True)
    assert listed(store, "ann", "zurich trip") == [ann.conversation]
    assert listed(store, "ann", "Geneva") == []


@pytest.mark.parametrize("title", ["", " \n", "x" * (MOST_TITLE + 1)])
def test_a_title_is_neither_empty_nor_endless(store, ann, title):
    with pytest.raises(InvalidFeedbackError, match="title"):
        store.rename_conversation("ann", ann.conversation, title)
    assert store.conversations("ann")[0].title == ""


def test_nobody_changes_the_conversation_of_another(store, ann, bob):
    votes_of_every_kind(store, ann)
    before = store.conversations("ann"), derived(store)
    for act in (
        lambda: store.rename_conversation("bob", ann.conversation, "mine"),
        lambda: store.pin_conversation("bob", ann.conversation, True),
        lambda: store.delete_conversation("bob", ann.conversation),
        lambda: store.restore_conversation("bob", ann.conversation),
        lambda: store.delete_conversation("bob", "nothing"),
    ):
        with pytest.raises(UnknownRecordError, match="your conversations"):
            act()
    assert (store.conversations("ann"), derived(store)) == before


def test_a_gold_question_is_no_conversation_of_the_list(store, ann):
    ann.choose(ann.shown("2 + 2?", "4", "5"), "a")
    items = [GoldItem((PromptMessage(role="user", content="sky?"),), "blue", "green")]
    shown = store.gold_question("ann", items, every=1)
    gold = store.candidates(shown)[0].conversation_id
    assert listed(store, "ann") == [ann.conversation] and listed(store, "ann", "sky") == []
    for act in (store.delete_conversation, store.restore_conversation):
        with pytest.raises(UnknownRecordError):
            act("ann", gold)
    with pytest.raises(UnknownRecordError):
        store.pin_conversation("ann", gold, True)


# Search


@ONE_STORE
@given(messages=st.lists(WORDS, min_size=1, max_size=4), data=st.data())
def test_every_word_of_ones_own_messages_finds_the_conversation_and_nothing_of_others(
    store, messages, data
):
    for rater in ("ann", "bob"):
        store.add_rater(rater)
    mine = conversation(store, "ann", *(" ".join(words) for words in messages))
    theirs = conversation(store, "bob", *(" ".join(words) for words in messages))
    words = data.draw(st.sampled_from(messages))
    query = " ".join(data.draw(st.lists(st.sampled_from(words), min_size=1, unique=True)))
    found = listed(store, "ann", query)
    assert mine in found and theirs not in found
    assert set(found) <= set(listed(store, "ann"))
    for one in (mine, theirs):
        store.delete_conversation("ann" if one == mine else "bob", one)
    assert mine not in listed(store, "ann", query)


def test_a_search_finds_the_beginning_of_a_word_and_all_words_in_one_place(store, ann):
    pizza = conversation(store, "ann", "where is Pizza Roma?", "and the price")
    assert listed(store, "ann", "piz rom") == [pizza]
    assert listed(store, "ann", "pizza price") == []
    assert listed(store, "ann", "replied") == []  # what the model said is not searched
    assert listed(store, "ann", '"* OR') == [] == listed(store, "ann", "\0*")[2:]
    with pytest.raises(InvalidFeedbackError, match="65 words"):
        store.conversations("ann", " ".join(map(str, range(65))))


def test_the_list_takes_one_read_however_long_it_is(store, ann):
    def steps():
        counted = []
        store._file._reader.conn.set_trace_callback(counted.append)
        store.conversations("ann")
        store._file._reader.conn.set_trace_callback(None)
        return len(counted)

    before = steps()
    for number in range(20):
        conversation(store, "ann", f"question {number}")
    assert steps() == before


# Deleted


def test_a_deleted_conversation_is_hidden_from_every_way_to_it(store, ann):
    reply = votes_of_every_kind(store, ann)
    shown = ann.shown("5 + 5?", "10", "11")
    store.delete_conversation("ann", ann.conversation)
    assert listed(store, "ann") == [] == listed(store, "ann", "capital")
    for look in (
        lambda: store.conversation_view("ann", conversation_id=ann.conversation),
        lambda: store.conversation_view("ann", message_id=reply),
        lambda: store.conversation_view("ann", candidates_id=shown),
        lambda: store.message(reply, rater_id="ann"),
        lambda: store.candidates(shown, rater_id="ann"),
        lambda: store.rename_conversation("ann", ann.conversation, "back"),
        lambda: store.add_dialogue(
            "ann", [PromptMessage(role="user", content="x")], parent_id=reply
        ),
    ):
        with pytest.raises(UnknownRecordError):
            look()
    with pytest.raises(ConflictError, match="deleted"):
        store.add_conversation("ann", conversation_id=ann.conversation)
    assert store.search("capital") == [] and store.unvoted_prompts(10) == []
    assert store.prompts_of([store.path(reply)[0].id]) == {}
    assert list(store.export_events()) == []


def test_a_dialogue_does_not_go_on_in_a_deleted_conversation(store, ann):
    asked = ann.ask("hello")
    ann.reply(asked, "hi")
    sent = [
        PromptMessage(role="user", content="hello"),
        PromptMessage(role="assistant", content="hi"),
    ]
    sent.append(PromptMessage(role="user", content="how are you?"))
    store.delete_conversation("ann", ann.conversation)
    assert store.continue_dialogue("ann", sent)[-1].conversation_id != ann.conversation


def test_votes_in_a_deleted_conversation_count_no_longer_until_it_is_restored(store, ann):
    votes_of_every_kind(store, ann)
    before = derived(store)
    assert all(before)
    assert store.delete_conversation("ann", ann.conversation) == 6
    assert derived(store) == ([], [], [])
    assert {one["left_out"] for one in store.feedback_of("ann")} == {DELETED}
    assert store.counts()["comparisons"] == 0
    assert store.restore_conversation("ann", ann.conversation) == store.conversations("ann")[0]
    assert derived(store) == before


ACTS = st.lists(st.sampled_from(["up", "down", "none", "delete", "restore"]), max_size=12)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(acts=ACTS, refresh=st.booleans())
def test_after_any_deletions_and_undos_what_counts_is_what_was_said_last(store, acts, refresh):
    chat = Chat(store, f"rater-{len(store.raters())}")
    asked = chat.ask("hello")
    good, _ = chat.reply(asked, "hi"), chat.reply(asked, "go away")
    value, deleted = 0, False
    for act in acts:
        if act == "delete":
            store.delete_conversation(chat.rater, chat.conversation)
        elif act == "restore":
            store.restore_conversation(chat.rater, chat.conversation)
        elif not deleted:
            value = {"up": 1, "down": -1, "none": 0}[act]
            store.add_thumb(good.id, chat.rater, value)
        deleted = (deleted or act == "delete") and act != "restore"
        if refresh:
            store.refresh_comparisons()
    store.refresh_comparisons()
    mine = [one for one in store.unpaired() if one.rater_id == chat.rater]
    assert [one.good for one in mine] == ([] if deleted or not value else [value > 0])
    standing = [thumb.value for thumb in store.thumbs() if thumb.rater_id == chat.rater]
    assert standing == ([] if deleted or not value else [value])


def test_what_others_said_in_it_counts_no_longer_either(store, ann, bob):
    asked = ann.ask("hello")
    store.add_thumb(ann.reply(asked, "hi").id, "bob", 1)
    assert derived(store)[1]
    store.delete_conversation("ann", ann.conversation)
    assert not derived(store)[1]
    store.restore_conversation("ann", ann.conversation)
    assert derived(store)[1]


def test_a_vote_that_was_changed_before_stays_changed_after_the_undo(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    ann.thumb(reply, -1)
    ann.thumb(reply, 1)
    for _ in range(3):
        store.delete_conversation("ann", ann.conversation)
        store.restore_conversation("ann", ann.conversation)
    first, second = store.feedback_of("ann")
    assert (first["left_out"], second["superseded_at"]) == (SUPERSEDED, None)
    assert [thumb.value for thumb in store.thumbs()] == [1]


def test_deleting_and_restoring_twice_changes_nothing_more(store, ann):
    votes_of_every_kind(store, ann)
    before = derived(store)
    assert [store.delete_conversation("ann", ann.conversation) for _ in range(2)] == [6, 0]
    for _ in range(2):
        store.restore_conversation("ann", ann.conversation)
    assert derived(store) == before


def test_what_a_cycle_has_used_is_withdrawn_and_is_no_news_after_the_undo(store, ann):
    ann.choose(ann.shown("2 + 2?", "4", "5"), "a")
    store.refresh_comparisons()
    cycle = store.start_cycle({}, pid=os.getpid()).id
    seen = store.last_numbers()
    store.use_comparisons(cycle, [one.id for one in store.comparisons()], seen=seen)
    store.finish_cycle(cycle, state="rejected", reasons=["worse"])
    store.delete_conversation("ann", ann.conversation)
    store.refresh_comparisons()
    [receipt] = store.feedback_of("ann")
    assert receipt["comparisons"][0]["withdrawn_at"] and receipt["comparisons"][0]["cycles"]
    store.restore_conversation("ann", ann.conversation)
    store.refresh_comparisons()
    [receipt] = store.feedback_of("ann")
    assert receipt["left_out"] is None and receipt["comparisons"][0]["withdrawn_at"] is None
    assert store.new_comparisons() == 0


def delete_earlier(store, days):
    with store._file.write() as db:
        sql = "UPDATE conversations SET deleted_at = ? WHERE deleted_at IS NOT NULL"
        db.execute(sql, [iso_utc(datetime.now(UTC) - timedelta(days=days))])


@pytest.mark.parametrize(("days", "kept"), [(DELETED_DAYS - 1, True), (DELETED_DAYS + 1, False)])
def test_a_sweep_erases_what_was_deleted_long_ago_however_long_others_are_kept(
    store, ann, days, kept
):
    votes_of_every_kind(store, ann)
    other = conversation(store, "ann", "hello")
    store.delete_conversation("ann", ann.conversation)
    delete_earlier(store, days)
    would = store.sweep(older_than_days=365, dry_run=True)
    assert store.sweep(older_than_days=365).get("conversations", 0) == (not kept)
    assert would["conversations"] == (not kept)
    assert listed(store, "ann") == [other]
    if kept:
        return
    with pytest.raises(UnknownRecordError):
        store.restore_conversation("ann", ann.conversation)
    assert store.search("capital") == [] and store.feedback_of("ann") == []


def test_an_import_brings_no_vote_back_into_a_deleted_conversation(store, ann, tmp_path):
    votes_of_every_kind(store, ann)
    store.rename_conversation("ann", ann.conversation, "old name")
    events = list(store.export_events())
    store.rename_conversation("ann", ann.conversation, "new name")
    assert store.import_events(events) == 0
    assert store.conversations("ann")[0].title == "new name"
    store.delete_conversation("ann", ann.conversation)
    assert store.import_events(events) == 0
    assert derived(store) == ([], [], [])
    with FeedbackStore(tmp_path / "other.db") as other:
        assert other.import_events(events) == len(events)
        assert list(other.export_events()) == events


def test_candidates_that_arrive_after_the_deletion_are_hidden_too(store, ann):
    asked = ann.ask("hello")
    store.delete_conversation("ann", ann.conversation)
    replies = [CandidateReply("hi"), CandidateReply("good day")]
    shown, _ = store.add_candidates(asked.id, replies, rater_id="ann")
    with pytest.raises(UnknownRecordError):
        store.candidates(shown, rater_id="ann")


def test_two_raters_lists_do_not_depend_on_each_other(store):
    ann, bob = Chat(store, "ann"), Chat(store, "bob")
    store.delete_conversation("ann", ann.conversation)
    assert listed(store, "bob") == [bob.conversation]


# A long list


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20
)
@given(limit=st.integers(1, 12), query=st.sampled_from(["", "apple"]))
def test_a_list_with_a_limit_is_the_beginning_of_the_whole_list(store, ann, limit, query):
    if not store.conversations("ann"):
        for number in range(8):
            conversation(store, "ann", f"{'apple' if number % 2 else 'pear'} {number}")
    whole = store.conversations("ann", query)
    assert store.conversations("ann", query, limit=limit) == whole[:limit]


def test_a_passage_shows_the_words_that_were_looked_for(store, ann, bob):
    one = conversation(store, "ann", "first", "Where is the <b>Pízza</b> of Roma?", "pizza again")
    two = conversation(store, "ann", "the pizza\x02 of \x03 control characters")
    titled = conversation(store, "ann", "no such word")
    store.rename_conversation("ann", titled, "Pizza")
    theirs = conversation(store, "bob", "pizza roma")
    found = store.passages("ann", "piz", [one, two, titled, theirs])
    assert set(found) == {one, two}
    assert found[one].pieces == (("pizza", True), (" again", False))
    [both] = store.passages("ann", "ROMA piz", [one]).values()
    assert both.pieces == (
        ("Where is the <b>", False),
        ("Pízza", True),
        ("</b> of ", False),
        ("Roma", True),
        ("?", False),
    )
    view = store.conversation_view("ann", conversation_id=one)
    assert both.message_id in {message.id for message in view.messages}
    assert "".join(text for text, _ in found[two].pieces).startswith("the pizza")
    assert store.passages("ann", "  ", [one]) == {}


def test_a_word_that_is_said_again_is_looked_for_once(store, ann):
    one = conversation(store, "ann", "the pizza of Roma")
    again = "pizza " * (MOST_WORDS + 1)
    assert listed(store, "ann", again) == [one]
    assert store.passages("ann", again, [one]).keys() == {one}


def test_the_words_of_no_conversation_are_not_looked_for(store):
    with store._file.write() as db:
        db.execute("DROP TABLE message_search")  # whatever looks for a word now fails
    assert store.passages("ann", "pizza", []) == {}
    with pytest.raises(FeedbackStoreError):
        store.passages("ann", "pizza", ["one"])


def test_what_was_deleted_is_listed_until_it_is_restored_or_erased(store, ann):
    one, two = (conversation(store, "ann", text, title=text) for text in ("one", "two"))
    other = store.add_dialogue("ann", [{"role": "user", "content": "x"}], page="compare")[0]
    for name in (one, two, other.conversation_id):
        store.delete_conversation("ann", name)
    assert {kept.id for kept in store.deleted_conversations("ann")} == {one, two}
    assert len(store.deleted_conversations("ann", limit=1)) == 1
    assert store.deleted_conversations("bob") == []
    assert store.deleted_conversation("ann", one).title == "one"
    assert store.deleted_conversation("bob", one) is None
    store.restore_conversation("ann", one)
    assert store.deleted_conversation("ann", one) is None
    assert [kept.id for kept in store.deleted_conversations("ann")] == [two]
