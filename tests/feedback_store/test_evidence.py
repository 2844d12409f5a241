"""What a rater does by themselves: too fast, too many, too much the same, and hidden tests."""

import random

import pytest

from feedback_store import CandidateReply, FeedbackStore
from feedback_store.evidence import GLANCE_CHARS, MOST_VOTES
from feedback_store.hidden_tests import GoldItem
from feedback_store.rows import rows
from rlhf_core.starter.raters import visitors
from tests.feedback_store.conftest import Chat

LONG = ("long answer " * GLANCE_CHARS, "another long answer " * GLANCE_CHARS)
ITEMS = [
    GoldItem(({"role": "user", "content": f"test {n}"},), f"right {n}", f"wrong {n}")
    for n in range(4)
]


def at(seconds):
    """A time of the present day, as the store writes it."""
    return f"2026-01-01T00:{int(seconds // 60):02}:{seconds % 60:06.3f}Z"


def set_time(store, table, row_id, seconds):
    with store._file.write() as db:
        db.conn.execute(f"UPDATE {table} SET created_at = ? WHERE id = ?", [at(seconds), row_id])


def chosen(chat, *, complete, decided, texts=LONG, gold=None, question="which?"):
    """A choice: asked at 0 s, both replies complete and the choice made at these seconds."""
    store = chat.store
    asked = chat.ask(question)
    replies = [CandidateReply(text) for text in texts]
    shown, _ = store.add_candidates(asked.id, replies, rater_id=chat.rater, gold=gold)
    label = random.Random(question).choice("ab")
    choice = store.add_choice(shown, chat.rater, label, idempotency_key=chat.key())
    times = (("messages", asked.id, 0), ("candidates", shown, complete))
    for table, row_id, seconds in (*times, ("choices", choice.id, decided)):
        set_time(store, table, row_id, seconds)


def fast_share(store):
    [report] = store.assess_raters()
    return report.fast_share


@pytest.mark.parametrize(
    ("complete", "decided", "texts", "fast"),
    [
        (1.0, 1.5, LONG, 1.0),
        (1.0, 3.5, LONG, 0.0),
        (1.0, 1.5, ("Yes.", "No."), None),  # seen at a glance
        (58.0, 58.5, LONG, 0.0),  # there was time to read along while they were written
    ],
)
def test_without_seconds_the_clock_tells_who_cannot_have_read(
    store: FeedbackStore, ann: Chat, complete, decided, texts, fast
):
    chosen(ann, complete=complete, decided=decided, texts=texts)
    assert fast_share(store) == fast


def test_what_the_client_measured_counts_before_the_clock(store, ann):
    shown = ann.shown("which?", *LONG)
    store.add_choice(shown, ann.rater, "a", seconds=30, idempotency_key="k")
    assert fast_share(store) == 0


def test_votes_on_the_page_made_without_reading_lead_to_quarantine_and_back(store, ann):
    for number in range(30):
        chosen(ann, complete=1, decided=1.2, question=f"question {number}")
        ann.choose(ann.shown(f"short {number}", "Yes.", "No."), "ab"[number % 2])
    [report] = store.assess_raters(by="operator-1")
    assert report.quarantine == "made 30 of 30 choices too fast to have read the replies"
    [noted] = [one for one in store.raters() if one.quarantined_at]
    assert (noted.decided_by, noted.reason) == ("operator-1", report.quarantine)
    store.release(ann.rater, by="operator-2")
    assert [one.quarantine for one in store.assess_raters()] == [None]


@pytest.mark.parametrize(
    ("kind", "consent"), [("simulated", None), ("simulated", "v1"), ("person", "dataset:arena")]
)
def test_programs_and_data_sets_are_not_held_to_the_clock(store, ann, kind, consent):
    with store._file.write() as db:
        db.execute("UPDATE raters SET kind = ?, consent = ?", [kind, consent])
        for number in range(MOST_VOTES + 10):
            chosen(ann, complete=1, decided=1.2, question=f"question {number}")
    [report] = store.assess_raters()
    assert (report.fast_share, report.quarantine) == (None, None)


def voted(chat, times):
    """Thumbs at these seconds."""
    with chat.store._file.write() as db:
        for number, seconds in enumerate(times):
            reply = chat.reply(chat.ask(f"question {number}"), f"reply {number}")
            chat.thumb(reply, 1 if number % 2 else -1)
            db.conn.execute(
                "UPDATE thumbs SET created_at = ? WHERE message_id = ?", [at(seconds), reply.id]
            )


def test_more_votes_than_one_a_second_for_a_minute_are_no_persons(store, ann, bob):
    voted(ann, [n * 0.9 for n in range(MOST_VOTES + 1)])
    voted(bob, [n * 1.1 for n in range(3 * MOST_VOTES)])
    reports = {report.rater_id: report.quarantine for report in store.assess_raters()}
    assert reports == {"ann": "gave more than 60 votes within 60 seconds", "bob": None}
    store.release("ann", by="me")
    assert {report.quarantine for report in store.assess_raters()} == {None}


def test_a_vote_that_is_changed_again_and_again_is_one_vote(store, ann):
    reply = ann.reply(ann.ask("question"), "reply")
    with store._file.write():
        for number in range(2 * MOST_VOTES):
            ann.thumb(reply, 1 if number % 2 else -1)
    [report] = store.assess_raters()
    assert report.quarantine is None


def wrote(chat, *answers):
    for number, text in enumerate(answers):
        prompt = [{"role": "user", "content": f"{chat.rater} asks {number}"}]
        chat.store.add_demonstration(chat.rater, text, prompt=prompt, idempotency_key=chat.key())


def test_one_text_for_many_prompts_is_a_copy_and_its_writer_is_held(store, ann, bob):
    wrote(ann, *["Buy at example.org!"] * 10, *(f"answer {n}" for n in range(9)))
    wrote(bob, *["No."] * 10, *(f"answer {n}" for n in range(10)))  # half of them: an honest habit
    cleo = Chat(store, "cleo")
    wrote(cleo, *["I do not know."] * 9)
    reports = {report.rater_id: report.quarantine for report in store.assess_raters()}
    assert reports["ann"] == "wrote the same answer to 10 of 19 different prompts"
    assert reports["bob"] is reports["cleo"] is None
    assert {one.rater_id for one in store.demonstrations()} == {"bob", "cleo"}
    store.release("ann", by="me")
    assert {report.quarantine for report in store.assess_raters()} == {None}


def test_the_same_prompt_answered_again_is_no_copy(store, ann):
    prompt = [{"role": "user", "content": "the same question"}]
    for number in range(12):
        key = f"again {number}"
        store.add_demonstration("ann", "the same answer", prompt=prompt, idempotency_key=key)
    assert [report.quarantine for report in store.assess_raters()] == [None]


def test_simulated_visitors_who_write_honest_answers_are_not_taken_for_copyists(store):
    with store._file.write():
        for number, visitor in enumerate(visitors(20, seed=0)):
            rater = store.add_rater(f"visitor-{number}", kind="simulated").id
            for turn in range(120):
                asked = visitor.ask()
                better = visitor.rewrite(asked, "Go away.")
                if better is not None:
                    prompt = [{"role": "user", "content": asked}]
                    store.add_demonstration(
                        rater, better, prompt=prompt, idempotency_key=f"{rater} {turn}"
                    )
    assert len(store.demonstrations()) > 500
    assert {report.quarantine for report in store.assess_raters()} == {None}


# Hidden tests


def judged(chat, times, *, begin=0):
    for number in range(begin, begin + times):
        chat.choose(chat.shown(f"own question {number}", "x", "y"), "ab"[number % 2])


def test_a_hidden_test_comes_after_every_nth_side_by_side_and_stays_until_answered(store, ann):
    judged(ann, 2)
    assert store.hidden_test("ann", ITEMS, every=3) is None
    judged(ann, 1, begin=2)
    test = store.hidden_test("ann", ITEMS, every=3)
    assert test is not None
    judged(ann, 6, begin=3)
    assert store.hidden_test("ann", ITEMS, every=3) == test
    ann.choose(test, "tie")
    assert store.hidden_test("ann", ITEMS, every=3) not in (test, None)
    assert store.hidden_test("ann", [], every=3) is not None  # what is open stays open


def test_nobody_takes_a_hidden_test_twice_and_sides_are_drawn_by_lot(store):
    sides = set()
    for rater in (f"rater-{n}" for n in range(8)):
        chat, prompts = Chat(store, rater), set()
        judged(chat, len(ITEMS) + 2)
        while test := store.hidden_test(rater, ITEMS, every=1):
            left, right = store.candidates(test)
            prompts.add(store.message(left.parent_id).content)
            sides.add(left.content.split()[0])
            assert {left.content[-1], right.content[-1]} == {store.path(left.id)[0].content[-1]}
            assert (left.adapter, right.adapter) == (None, None)
            chat.choose(test, "a")
        assert prompts == {f"test {n}" for n in range(len(ITEMS))}
    assert sides == {"right", "wrong"}


def test_hidden_tests_are_in_no_list_of_conversations_and_become_no_comparison(store, ann):
    judged(ann, 1)
    test = store.hidden_test("ann", ITEMS, every=1)
    right = next(m.label for m in store.candidates(test) if m.content.startswith("right"))
    ann.choose(test, right)
    store.refresh_comparisons()
    assert len(store.comparisons()) == 1
    assert store.unpaired() == []
    assert [one.id for one in store.conversations("ann")] == [ann.conversation]
    [standing] = store.raters()
    assert (standing.gold_right, standing.gold_total, standing.said) == (1, 1, 1)
    store.forget("ann")
    with store._file.read() as db:
        assert rows(db, "SELECT 1 FROM messages") == rows(db, "SELECT 1 FROM candidates") == []


def test_the_first_answer_to_a_hidden_test_counts(store, ann):
    judged(ann, 1)
    test = store.hidden_test("ann", ITEMS, every=1)
    right = next(m.label for m in store.candidates(test) if m.content.startswith("right"))
    choice = store.add_choice(test, "ann", "tie", idempotency_key="first")
    set_time(store, "choices", choice.id, 0)
    ann.choose(test, right)
    [report] = store.assess_raters()
    assert (report.gold_right, report.gold_total) == (0, 1)


def test_who_fails_hidden_tests_is_held(store, ann):
    items = [
        GoldItem(({"role": "user", "content": f"q {n}"},), "right", "wrong") for n in range(12)
    ]
    judged(ann, 12)
    while test := store.hidden_test("ann", items, every=1):
        wrong = next(m.label for m in store.candidates(test) if m.content == "wrong")
        ann.choose(test, wrong)
    [report] = store.assess_raters(by="operator-1")
    assert report.quarantine == "right in only 0 of 12 hidden tests"
    assert store.comparisons() == []
