"""What a rater does by themselves: too fast, too many, too much the same."""

import random

import pytest

from feedback_store import CandidateReply, FeedbackStore
from feedback_store.raters.behaviour import APART_S, GLANCE_CHARS, MOST_VOTES
from rlhf_core.worlds.starter.raters import visitors
from tests.feedback_store.conftest import Chat

LONG = ("long answer " * GLANCE_CHARS, "another long answer " * GLANCE_CHARS)


def at(seconds):
    """A time of one day, as the store writes it."""
    minutes = int(seconds // 60)
    return f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}:{seconds % 60:06.3f}Z"


def set_time(store, table, row_id, seconds):
    with store._file.write() as db:
        db.conn.execute(f"UPDATE {table} SET created_at = ? WHERE id = ?", [at(seconds), row_id])


def chosen(chat, *, complete, decided, texts=LONG, says=None, question="which?"):
    """A choice: asked at 0 s, both replies complete and the choice made at these seconds.

    `says` is what the client says that it took.
    """
    store = chat.store
    asked = chat.ask(question)
    replies = [CandidateReply(text) for text in texts]
    shown, _ = store.add_candidates(asked.id, replies, rater_id=chat.rater)
    label = random.Random(question).choice("ab")
    choice = store.add_choice(shown, chat.rater, label, seconds=says, idempotency_key=chat.key())
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


@pytest.mark.parametrize(
    ("says", "decided", "fast"),
    [
        (2.5, 3.0, 0.0),  # shown before both were stored, say
        (1.5, 300.0, 1.0),
        (0, 300.0, 0.0),  # a client that does not know
        (30, 1.5, 1.0),  # it was asked a second and a half ago
    ],
)
def test_what_the_client_measured_counts_as_far_as_it_is_possible(
    store: FeedbackStore, ann: Chat, says, decided, fast
):
    chosen(ann, complete=1.2, decided=decided, says=says)
    assert fast_share(store) == fast


@pytest.mark.parametrize(("says", "fast"), [(30, 0.0), (1, 1.0), (0, None)])
def test_a_simulated_visitor_may_say_any_time(store, ann, says, fast):
    with store._file.write() as db:
        db.execute("UPDATE raters SET kind = 'simulated'")
    chosen(ann, complete=1, decided=1.2, says=says)
    assert fast_share(store) == fast


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


BURST = [n * 0.9 for n in range(MOST_VOTES + 5)]


def test_more_votes_than_one_a_second_again_an_hour_later_are_no_persons(store, ann, bob):
    voted(ann, [*BURST, *(APART_S + seconds for seconds in BURST)])
    voted(bob, [n * 1.1 for n in range(3 * MOST_VOTES)])
    reports = {report.rater_id: report for report in store.assess_raters()}
    said = "gave more than 60 votes within 60 seconds on 2 occasions"
    assert (reports["ann"].quarantine, reports["ann"].notes) == (said, ())
    assert (reports["bob"].quarantine, reports["bob"].notes) == (None, ())
    store.release("ann", by="me")
    assert {report.quarantine for report in store.assess_raters()} == {None}


def test_an_upload_of_gathered_votes_is_noted_and_not_punished(store, ann):
    voted(ann, [*BURST, *(APART_S / 2 + seconds for seconds in BURST)])
    [report] = store.assess_raters()
    assert (report.quarantine, report.reliability) == (None, 1)
    assert report.notes == ("gave more than 60 votes within 60 seconds",)


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
    wrote(ann, *["Buy at example.org!"] * 18, *(f"answer {n}" for n in range(2)))
    wrote(bob, *["I cannot help with that."] * 17, *(f"answer {n}" for n in range(3)))
    cleo, dan = Chat(store, "cleo"), Chat(store, "dan")
    wrote(cleo, *["I do not know."] * 9)
    wrote(dan, *["No."] * 10, *(f"answer {n}" for n in range(10)))  # half of them: a habit
    reports = {report.rater_id: report for report in store.assess_raters()}
    assert reports["ann"].quarantine == "wrote the same answer to 18 of 20 different prompts"
    assert {one.rater_id for one in reports.values() if one.quarantine} == {"ann"}
    assert reports["bob"].notes == ("wrote the same answer to 17 of 20 different prompts",)
    assert reports["ann"].notes == reports["cleo"].notes == reports["dan"].notes == ()
    assert {one.rater_id for one in store.demonstrations()} == {"bob", "cleo", "dan"}
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
