import gc
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback_store import CandidateReply, InvalidFeedbackError


def ids(store, **options):
    return [item.id for item in store.comparisons(**options)]


def use_all(store, state):
    cycle = store.start_cycle({}, pid=os.getpid())
    store.use_comparisons(cycle.id, ids(store))
    store.finish_cycle(cycle.id, state=state)
    return cycle.id


def test_comparisons_appear_once_and_refreshing_again_changes_nothing(store, ann):
    shown = ann.shown("hello", "x", "y")
    ann.choose(shown, "a")
    assert store.comparisons() == []
    assert [store.refresh_comparisons(), store.refresh_comparisons()] == [1, 0]
    [found] = store.comparisons()
    assert (found.response_a, found.label, found.rater_id) == ("x", "a", "ann")
    assert found.event_ids == (store.choices()[0].id,)


def test_a_store_that_was_split_by_another_rule_is_split_afresh(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    [right] = store.comparisons()
    with store._file.write() as db:
        db.execute("UPDATE comparisons SET split = iif(split = 'train', 'held_out', 'train')")
        db.execute("UPDATE bookkeeping SET value = 1 WHERE name = 'derivation'")
    store.refresh_comparisons()
    assert store.comparisons() == [right]


def test_a_changed_choice_replaces_its_comparison(store, ann):
    shown = ann.shown("hello", "x", "y")
    labels = []
    for picked in ("a", "b", "both_bad", "a"):
        ann.choose(shown, picked)
        store.refresh_comparisons()
        labels.append([item.label for item in store.comparisons()])
    assert labels == [["a"], ["b"], [], ["a"]]


def test_a_vote_taken_back_and_cast_again_is_the_same_comparison(store, ann):
    question = ann.ask("hello")
    good, bad = ann.reply(question, "x"), ann.reply(question, "y")
    ann.thumb(good, 1)
    ann.thumb(bad, -1)
    store.refresh_comparisons()
    before = ids(store)
    ann.thumb(good, 0)
    assert store.refresh_comparisons() == 0
    assert store.comparisons() == []
    ann.thumb(good, 1)
    assert store.refresh_comparisons() == 1
    assert ids(store) == before != []


def test_a_new_thumb_shares_the_weight_of_the_old_ones(store, ann):
    question = ann.ask("hello")
    ann.thumb(ann.reply(question, "x"), 1)
    for text in ("y", "z"):
        ann.thumb(ann.reply(question, text), -1)
        store.refresh_comparisons()
    assert [item.weight for item in store.comparisons()] == [0.5, 0.5]


def test_what_a_cycle_used_is_kept_as_withdrawn_and_comes_back_if_voted_again(store, ann):
    shown = ann.shown("hello", "x", "y")
    ann.choose(shown, "a")
    store.refresh_comparisons()
    cycle_id, before = use_all(store, "promoted"), ids(store)
    ann.choose(shown, "both_bad")
    assert store.refresh_comparisons() == 0
    assert store.comparisons() == []
    [used] = store.feedback_of(ann.rater)[0]["comparisons"]
    assert (used["id"], used["cycles"]) == (before[0], [cycle_id])
    assert used["withdrawn_at"] is not None
    ann.choose(shown, "a")
    assert store.refresh_comparisons() == 0  # not new: a cycle has learnt it already
    assert ids(store) == before
    assert store.new_comparisons() == 0


@pytest.mark.parametrize(
    ("state", "new"), [("promoted", 0), ("rejected", 0), ("refused", 1), ("failed", 1)]
)
def test_only_a_cycle_that_came_to_a_verdict_has_seen_comparisons(store, ann, state, new):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    assert store.new_comparisons() == 1
    use_all(store, state)
    assert store.new_comparisons() == new == store.counts()["unused_comparisons"]
    assert len(ids(store)) == 1


def test_the_votes_of_held_out_raters_are_no_new_evidence_to_learn_from(store, bob):
    with store._file.write() as db:
        db.execute("UPDATE raters SET held_out = 1")
    for number in range(8):
        bob.choose(bob.shown(f"what is {number}?", "x", "y"), "a")
    store.refresh_comparisons()
    splits = [item.split for item in store.comparisons()]
    assert set(splits) == {"held_out", "held_out_raters"}
    assert store.counts()["unused_comparisons"] == splits.count("held_out")
    assert store.counts()["comparisons"] == 8


def test_comparisons_are_split_by_prompt(store, ann):
    for number in range(40):
        ann.choose(ann.shown(f"what is {number}?", "x", "y"), "a")
    store.refresh_comparisons()
    train, held_out = store.comparisons(split="train"), store.comparisons(split="held_out")
    assert {item.split for item in train} == {"train"}
    assert len(train) + len(held_out) == len(store.comparisons()) == 40
    assert held_out
    with pytest.raises(InvalidFeedbackError):
        store.comparisons(split="test")


def test_a_person_without_consent_is_not_learnt_from(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    store.set_consent(ann.rater, None)
    assert store.comparisons() == []
    assert store.counts()["comparisons"] == store.counts()["unused_comparisons"] == 0
    assert store.counts()["choices"] == 1
    store.set_consent(ann.rater, "v2")
    assert len(store.comparisons()) == 1


def test_a_rater_whose_word_counts_nothing_is_not_counted_either(store, ann, bob):
    for chat in (ann, bob):
        chat.choose(chat.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    with store._file.write() as db:
        db.execute("UPDATE raters SET reliability = 0 WHERE id = 'bob'")
    assert [item.rater_id for item in store.comparisons()] == ["ann"]
    counts = store.counts()
    assert counts["comparisons"] == counts["unused_comparisons"] == len(ids(store)) == 1


def test_receipts_show_each_event_its_comparisons_and_their_cycles(store, ann, bob):
    shown = ann.shown("hello", "x", "y")
    ann.choose(shown, "b")
    ann.thumb(store.candidates(shown)[0], -1)
    bob.thumb(bob.reply(bob.ask("hi"), "z"), 1)
    store.refresh_comparisons()
    cycle_id = use_all(store, "rejected")
    choice, thumb = store.feedback_of(ann.rater)
    assert (choice["event"], choice["choice"]) == ("choice", "b")
    assert [use["cycles"] for use in choice["comparisons"]] == [[cycle_id]]
    assert (thumb["event"], thumb["value"], thumb["tags"], thumb["comparisons"]) == (
        "thumb",
        -1,
        (),
        [],
    )


def test_counts_count_what_stands(store, ann):
    reply = ann.reply(ann.ask("hello"), "hi")
    for value in (1, -1, 0, 1):
        ann.thumb(reply, value)
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.add_demonstration(ann.rater, "hey", message_id=reply.id, idempotency_key="d")
    store.refresh_comparisons()
    assert list(store.counts().values()) == [1, 5, 1, 1, 1, 2, 2]


def test_what_chat_does_never_scans_a_table(store, ann):
    shown = ann.shown("hello", "x", "y")
    reply = store.candidates(shown)[0]
    statements = []
    for db in (store._file._reader, store._file._writer):
        db.conn.set_trace_callback(statements.append)
    ann.thumb(reply, 1)
    ann.choose(shown, "a")
    ann.reply(store.path(reply.id)[0], "z")
    store.conversation_view(ann.rater, candidates_id=shown)
    store.messages(ann.conversation)
    store.conversations(ann.rater)
    store.feedback_of(ann.rater)
    store.owner_of(reply.id)
    store.serving()
    store.last_cycle()
    for db in (store._file._reader, store._file._writer):
        db.conn.set_trace_callback(None)
    queries = [sql for sql in statements if sql.lstrip().startswith(("SELECT", "WITH", "UPDATE"))]
    assert len(queries) > 20
    with store._file.read() as db:
        tables = {f"SCAN {name}" for name in db.table_names()}
        for sql in queries:
            plan = {row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")}
            # "LIMIT 1" from the end of a table by its key is no scan in fact.
            assert "LIMIT" in sql or not plan & tables, (sql, plan)


@pytest.mark.parametrize("collecting", [True, False])
def test_deriving_leaves_garbage_collection_as_it_was(store, ann, collecting):
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        ann.choose(ann.shown("hello", "x", "y"), "a")
        assert store.refresh_comparisons() == 1
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()


def work(store, act):
    """SQLite's own steps, in tens, that an act takes: alike on every machine."""
    steps = []
    for db in (store._file._reader, store._file._writer):
        db.conn.set_progress_handler(lambda: steps.append(1), 10)
    act()
    for db in (store._file._reader, store._file._writer):
        db.conn.set_progress_handler(None, 0)
    return len(steps)


def test_one_more_vote_is_derived_at_the_same_cost_among_ten_times_as_many(store, ann):
    numbers, all_of_them, one_more = iter(range(10_000)), {}, {}

    def vote(times):
        with store._file.write():  # one transaction, to be quick about it
            for number in (next(numbers) for _ in range(times)):
                shown = ann.shown(f"question {number}", "x", "y")
                ann.choose(shown, "a")
                ann.thumb(store.candidates(shown)[0], 1)

    for votes in (60, 540):
        vote(votes)
        all_of_them[votes] = work(store, store.refresh_comparisons)
        vote(1)
        one_more[votes] = work(store, store.refresh_comparisons)
    assert len(store.comparisons()) == 602
    assert one_more[540] < 1.5 * one_more[60]
    assert all_of_them[540] < 1.5 * 9 * all_of_them[60]


votes = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([1, -1])), max_size=6)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(votes, votes, st.randoms(use_true_random=False))
def test_the_state_depends_on_what_stands_not_on_how_it_came_about(
    store, ann, before, others, random
):
    """Voting in any order, with votes in between that are taken back, ends in the same state."""
    final = dict(before)
    with store._file.write() as db:
        db.execute("SAVEPOINT trial")
        question = ann.ask("hello")
        replies = {
            message.label: message
            for message in store.add_candidates(
                question.id, [CandidateReply(text) for text in "wxyz"], rater_id=ann.rater
            )[1]
        }

        def outcome(cast):
            for label, value in cast:
                ann.thumb(replies[label], value)
            store.refresh_comparisons()
            return [(item.id, item.weight) for item in store.comparisons()]

        straight = outcome(final.items())
        assert outcome([(label, 0) for label in "abcd"]) == []
        detour = [*others, *((label, 0) for label, _ in others)]
        shuffled = random.sample(list(final.items()), len(final))
        assert outcome([*detour, *shuffled]) == straight
        db.execute("ROLLBACK TO trial")
        db.execute("RELEASE trial")


def derived(store):
    return store.comparisons(), store.unpaired()


acts = st.lists(
    st.tuples(
        st.sampled_from(["up", "down", "none", "retry", "go on", "rewrite", "choose", "refresh"]),
        st.integers(0, 5),
    ),
    max_size=14,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(acts)
def test_deriving_step_by_step_is_deriving_everything_at_once(store, ann, acts):
    """Whatever is done in whatever order, with derivations in between."""
    with store._file.write() as db:
        db.execute("SAVEPOINT trial")
        asked = ann.ask("hello")
        replies = [ann.reply(asked, text) for text in "xy"]
        for act, which in acts:
            reply = replies[which % len(replies)]
            if act in ("up", "down", "none"):
                ann.thumb(reply, {"up": 1, "down": -1, "none": 0}[act])
            elif act == "retry":
                new = store.add_message(
                    ann.conversation,
                    "assistant",
                    "xyz"[which % 3],
                    parent_id=asked.id,
                    retry_of=reply.id,
                )
                replies.append(new)
            elif act == "go on":
                store.add_message(ann.conversation, "user", "and?", parent_id=reply.id)
            elif act == "rewrite":
                key = ann.key()
                store.add_demonstration(ann.rater, "z", message_id=reply.id, idempotency_key=key)
            elif act == "choose":
                ann.choose(ann.shown("hello", "x", "y"), "ab"[which % 2])
            else:
                store.refresh_comparisons()
        store.refresh_comparisons()
        step_by_step = derived(store)
        store.rebuild_comparisons()
        assert derived(store) == step_by_step
        db.execute("ROLLBACK TO trial")
        db.execute("RELEASE trial")


def test_deriving_never_scans_what_is_not_stale(store, ann):
    ann.choose(ann.shown("hello", "x", "y"), "a")
    store.refresh_comparisons()
    ann.choose(ann.shown("bye", "x", "y"), "a")
    statements = []
    with store._file.write() as db:
        db.conn.set_trace_callback(statements.append)
        store.refresh_comparisons()
        db.conn.set_trace_callback(None)
        tables = set(db.table_names()) - {"raters"}  # held-out ones are looked up by a flag
        aliases = {"event", "a", "b", "shown", "old", "new", "reply", "next", "derived"}
        for sql in statements:
            if not sql.lstrip().startswith(("SELECT", "DELETE", "UPDATE")):
                continue
            for row in db.execute(f"EXPLAIN QUERY PLAN {sql}"):
                scanned = row[3].split()[1] if row[3].startswith("SCAN") else None
                small = "stale_prompts" in sql and scanned == "stale_prompts"
                assert small or scanned not in tables | aliases, (sql, row[3])
    assert len(statements) > 8
