"""Opinions by number: what is new, and bounded pools to draw from."""

import os
from collections import Counter

import pytest

from feedback_store import CandidateReply, InvalidFeedbackError
from feedback_store.splits import is_held_out_question


def numbers_of(store, table="comparisons"):
    with store._file.read() as db:
        return dict(db.conn.execute(f"SELECT id, number FROM {table}").fetchall())


def pool_of(store, table="comparisons", split="train", *, numbers=None, most=100, seed="0"):
    if numbers is None:
        numbers = range(1, store.last_numbers()[table] + 1)
    return store.opinion_pool(table, split, numbers=numbers, most=most, seed=seed)


def vote(chat, times):
    with chat.store._file.write():  # one transaction, to be quick about it
        for _ in range(times):
            chat.choose(chat.shown(f"question {chat.key()}", "x", "y"), "a")
    chat.store.refresh_comparisons()


def test_the_pairs_of_a_ranking_and_a_raters_thumbs_on_a_prompt_share_a_number(store, ann):
    ranked = ann.ask("rank")
    shown, _ = store.add_candidates(
        ranked.id, [CandidateReply(text) for text in "wxyz"], rater_id="ann"
    )
    store.add_ranking(shown, "ann", [["a"], ["b", "c"], ["d"]])
    asked = ann.ask("judge")
    for text, value in (("p", 1), ("q", -1), ("r", -1)):
        ann.thumb(ann.reply(asked, text), value)
    ann.choose(ann.shown("choose", "x", "y"), "a")
    ann.thumb(ann.reply(ann.ask("alone"), "z"), 1)
    store.refresh_comparisons()
    assert sorted(Counter(numbers_of(store).values()).values()) == [1, 2, 6]
    assert list(numbers_of(store, "unpaired").values()) == [1]
    assert store.last_numbers() == {"comparisons": 3, "unpaired": 1, "demonstrations": 0}


def test_an_opinion_that_gains_a_row_is_new_as_a_whole(store, ann):
    asked = ann.ask("judge")
    ann.thumb(ann.reply(asked, "p"), 1)
    ann.thumb(ann.reply(asked, "q"), -1)
    ann.choose(ann.shown("other", "x", "y"), "a")
    store.refresh_comparisons()
    before = numbers_of(store)
    ann.thumb(ann.reply(asked, "r"), -1)
    store.refresh_comparisons()
    after = numbers_of(store)
    assert sorted(before.values()) == [1, 2] and Counter(after.values())[3] == 2
    assert set(before.values()) & set(after.values())  # the other one keeps its number


def test_no_number_is_given_twice_even_if_the_last_one_is_gone(store, ann):
    shown = ann.shown("hello", "x", "y")
    for picked in ("a", "both_bad", "a"):
        ann.choose(shown, picked)
        store.refresh_comparisons()
    assert list(numbers_of(store).values()) == [2]


def test_a_small_range_is_in_the_pool_as_a_whole(store, ann):
    vote(ann, 30)
    train = {item.id for item in store.comparisons(split="train")}
    found = pool_of(store)
    assert {row.id for row in found} == train
    assert {row.adapters for row in found} == {("policy-000000", "policy-000000")}
    upper = pool_of(store, numbers=range(16, 31))
    assert {row.number for row in upper} == {r.number for r in found if r.number > 15}
    assert pool_of(store, numbers=range(31, 31)) == ()
    with pytest.raises(InvalidFeedbackError, match="'messages'"):
        pool_of(store, "messages", numbers=range(1, 2))


def test_of_a_large_range_the_pool_has_some_drawn_by_lot(store, ann):
    vote(ann, 60)
    everything = {row.number for row in pool_of(store, most=1000)}
    seen = Counter()
    for seed in range(60):
        found = pool_of(store, most=3, seed=str(seed))
        assert 3 <= len(found) <= 6 + 6 and found == pool_of(store, most=3, seed=str(seed))
        seen.update(row.number for row in found)
    assert set(seen) == everything, "every one has a chance"
    assert max(seen.values()) < 6 * min(seen.values()), "and none a much better one"


def test_where_most_numbers_are_gone_the_newest_fill_a_pool_up(store, ann):
    vote(ann, 10)
    with store._file.write() as db:
        db.execute("UPDATE comparisons SET number = number * 1000")
        db.execute("UPDATE bookkeeping SET value = 10000 WHERE name = 'last_number_of_comparisons'")
    everything = [row.number for row in pool_of(store)]
    found = [row.number for row in pool_of(store, most=3)]
    assert set(everything[-3:]) <= set(found) and len(found) < len(everything)


def test_nobody_is_in_a_pool_who_may_not_be_learnt_from(store, ann, bob):
    vote(ann, 6)
    vote(bob, 6)
    bob.thumb(bob.reply(bob.ask("alone?"), "z"), 1)
    for chat in (ann, bob):
        prompt = [{"role": "user", "content": f"write for {chat.rater}"}]
        store.add_demonstration(chat.rater, "line", prompt=prompt)
    store.refresh_comparisons()

    def raters():
        tables = ("comparisons", "unpaired", "demonstrations")
        splits = ("train", "held_out", "held_out_raters")
        found = [pool_of(store, table, split) for table in tables for split in splits]
        return {row.rater_id for one in found for row in one}

    assert raters() == {"ann", "bob"}
    store.set_consent("bob", None)
    assert raters() == {"ann"}
    store.quarantine("ann", by="operator", reason="a test")
    assert raters() == set()


def test_a_judgement_of_somebody_elses_reply_needs_the_owners_consent(store, ann, bob):
    reply = bob.reply(bob.ask("whose words?"), "mine")
    store.add_thumb(reply.id, "ann", 1)
    store.refresh_comparisons()
    split = store.unpaired()[0].split
    assert [row.rater_id for row in pool_of(store, "unpaired", split)] == ["ann"]
    store.set_consent("bob", None)
    assert pool_of(store, "unpaired", split) == ()


def test_a_verdict_is_on_the_texts_whichever_stood_on_the_left(store, ann, bob):
    ann.choose(ann.shown("which?", "x", "y"), "a")
    bob.choose(bob.shown("which?", "y", "x"), "b")
    store.refresh_comparisons()
    split = store.comparisons()[0].split
    one, other = pool_of(store, split=split)
    assert one.subject == other.subject and one.verdict == other.verdict != 0


def test_demonstrations_are_in_the_split_of_their_question(store, ann):
    for number in range(40):
        store.add_demonstration(
            "ann", "line", prompt=[{"role": "user", "content": f"write {number}"}]
        )
    for split in ("train", "held_out", "held_out_raters"):
        found = {row.id for row in pool_of(store, "demonstrations", split)}
        assert found == {item.id for item in store.demonstrations(split=split)}
    with store._file.write() as db:
        db.execute("UPDATE raters SET held_out = 1")
    for split in ("train", "held_out_raters"):
        found = {row.id for row in pool_of(store, "demonstrations", split)}
        assert found == {item.id for item in store.demonstrations(split=split)}


def texts(store, most=10):
    return [
        prompt[-1]["content"] for prompt in store.prompts_of(store.unvoted_prompts(most)).values()
    ]


def test_prompts_that_nobody_voted_on_are_those_of_raters_who_may_be_learnt_from(store, ann, bob):
    training = [q for q in (f"question {n}?" for n in range(30)) if not is_held_out_question(q)]
    voted, judged, *unvoted = training
    ann.choose(ann.shown(voted, "x", "y"), "a")
    ann.thumb(ann.reply(ann.ask(judged), "x"), 1)
    for question in unvoted[:2]:
        ann.reply(ann.ask(question), "x")
    bob.ask(unvoted[2])
    for question in (f"question {n}?" for n in range(30)):
        if is_held_out_question(question):
            ann.ask(question)
    store.refresh_comparisons()
    assert texts(store) == unvoted[2::-1]
    assert texts(store, most=2) == unvoted[2:0:-1]
    names = store.unvoted_prompts(10)
    store.set_consent("bob", None)
    assert texts(store) == unvoted[1::-1]
    assert len(store.prompts_of(names)) == 2  # noted before, and no longer given
    store.quarantine("ann", by="operator", reason="a test")
    assert texts(store) == []


def steps(store, act):
    """SQLite's own steps, in tens, that an act takes: alike on every machine."""
    counted = []
    store._file._reader.conn.set_progress_handler(lambda: counted.append(1), 10)
    act()
    store._file._reader.conn.set_progress_handler(None, 0)
    return len(counted)


def test_a_pool_costs_the_same_of_many_opinions(store, ann):
    costs = {}
    for votes in (60, 300):
        vote(ann, votes)
        costs[votes] = steps(store, lambda: (pool_of(store, most=2), store.unvoted_prompts(2)))
    assert costs[300] < 1.5 * costs[60]


def test_what_is_new_is_counted_at_its_own_cost(store, ann):
    costs = []
    for votes in (20, 150):
        vote(ann, votes)
        cycle = store.start_cycle({}, pid=os.getpid())
        store.use_comparisons(cycle.id, ())
        store.finish_cycle(cycle.id, state="rejected")
        vote(ann, 10)
        assert store.new_comparisons() == 10
        assert store.new_comparisons(at_most=3) == 3
        costs.append(steps(store, store.new_comparisons))
    assert costs[1] < 1.5 * costs[0]


@pytest.mark.parametrize("silence", ["quarantine", "consent"])
def test_what_a_rater_said_is_new_when_the_rater_is_heard_again(store, ann, bob, silence):
    def cycle(uses=()):
        number = store.start_cycle({}, pid=os.getpid()).id
        store.use_comparisons(number, uses, seen=store.last_numbers())
        store.finish_cycle(number, state="rejected")

    vote(bob, 3)
    cycle(uses=[c.id for c in store.comparisons()])
    vote(bob, 4)
    if silence == "quarantine":
        store.quarantine(bob.rater, by="test", reason="by mistake")
    else:
        store.set_consent(bob.rater, None)
    vote(ann, 2)
    cycle(uses=[c.id for c in store.comparisons()])  # without bob's
    assert store.new_comparisons() == 0
    if silence == "quarantine":
        store.release(bob.rater, by="test")
    else:
        store.set_consent(bob.rater, "2026-01")
    assert store.new_comparisons() == 4  # not the three that a cycle has used
