import pytest

from feedback_store.raters.whose import NO_SCRIPT, script_of
from tests.feedback_store.conftest import Chat

QUESTION = "What is the capital of Italy?"


def facts(store, **chosen):
    store.refresh_comparisons()
    return store.vote_facts(**chosen)


def test_two_raters_who_judge_the_same_texts_have_one_subject(store, ann, bob):
    ann.choose(ann.shown(QUESTION, "Rome.", "Paris."), "a")
    bob.choose(bob.shown(QUESTION, "Paris.", "Rome."), "a")
    first, second = sorted(facts(store), key=lambda fact: fact.rater)
    assert (first.rater, second.rater) == ("ann", "bob")
    assert first.subject == second.subject is not None
    assert first.question == second.question
    assert first.verdict == -second.verdict != 0


def test_a_tie_is_neither_text(store, ann):
    ann.choose(ann.shown(QUESTION, "Rome.", "Paris."), "tie")
    (fact,) = facts(store)
    assert fact.verdict == 0
    assert (fact.source, fact.group, fact.text, fact.script) == (
        "choice",
        "person",
        QUESTION,
        "Latn",
    )


def test_a_thumb_alone_is_a_vote_without_a_second_text(store, ann):
    ann.thumb(ann.reply(ann.ask("Was ist 二?"), "Zwei."), 1)
    (fact,) = facts(store)
    assert (fact.source, fact.subject, fact.verdict) == ("thumb", None, 0)


def test_raters_are_of_their_kind_or_imported(store):
    for name, kind, consent in (
        ("ann", "person", "v1"),
        ("robot", "simulated", None),
        ("boss", "operator", "v1"),
        ("pandalm:1", "person", "dataset:pandalm"),
    ):
        store.add_rater(name, kind=kind, consent=consent)
        conversation = store.add_conversation(name).id
        chat = Chat.__new__(Chat)
        chat.store, chat.rater, chat.conversation, chat._keys = store, name, conversation, 0
        chat.choose(chat.shown(f"{QUESTION} {name}", "Rome.", "Paris."), "a")
    store.let_programs_train(("simulated",), share=0.3)
    store.refresh_comparisons()
    assert {fact.rater: fact.group for fact in facts(store)} == {
        "ann": "person",
        "robot": "simulated",
        "boss": "operator",
        "pandalm:1": "imported",
    }


def test_who_is_in_quarantine_or_did_not_agree_is_not_among_them(store, ann, bob):
    ann.choose(ann.shown(QUESTION, "Rome.", "Paris."), "a")
    bob.choose(bob.shown(QUESTION, "Rome.", "Paris."), "a")
    store.quarantine("ann", by="test", reason="a test")
    store.set_consent("bob", None)
    assert facts(store) == []


def test_what_does_not_count_takes_no_place_among_the_newest(store, ann, monkeypatch):
    monkeypatch.setattr("feedback_store.raters.whose.MOST", 2)
    ann.choose(ann.shown(QUESTION, "Rome.", "Paris."), "a")
    store.add_rater("model", kind="judge")
    for number in range(3):
        store.add_choice(ann.shown(f"{QUESTION} {number}", "Rome.", "Paris."), "model", "a")
    assert [fact.rater for fact in facts(store)] == ["ann"]


def test_a_vote_about_a_conversation_whose_owner_took_the_consent_back_is_none(store, ann, bob):
    shown = ann.shown(QUESTION, "Rome.", "Paris.")
    store.add_choice(shown, "bob", "a")
    store.add_thumb(ann.reply(ann.ask(f"{QUESTION} again"), "Rome.").id, "bob", 1)
    assert {fact.rater for fact in facts(store)} == {"bob"}
    used = {one.id: 1.0 for one in store.comparisons()}
    store.set_consent("ann", None)
    assert facts(store) == []
    assert len(facts(store, comparisons=used, unpaired={})) == len(used), "a cycle had used it"


def test_the_pairs_of_a_ranking_are_one_opinion(store, ann):
    shown = ann.shown(QUESTION, "Rome.", "Paris.", "Oslo.")
    store.add_ranking(shown, "ann", [["a"], ["b"], ["c"]])
    ann.thumb(ann.reply(ann.ask("And Spain?"), "Madrid."), 1)
    found = facts(store)
    assert len({fact.opinion for fact in found if fact.source == "ranking"}) == 1
    assert len({fact.opinion for fact in found}) == 2 and len(found) == 4


def test_a_cycles_votes_have_the_weights_that_it_gave_them(store, ann):
    for number in range(3):
        ann.choose(ann.shown(f"{QUESTION} {number}", "Rome.", "Paris."), "a")
    store.refresh_comparisons()
    chosen = store.comparisons()[1]
    (fact,) = facts(store, comparisons={chosen.id: 0.25}, unpaired={})
    assert (fact.weight, fact.text) == (0.25, chosen.prompt[-1]["content"])


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Wie heißt du?", "Latn"),
        ("Как дела?", "Cyrl"),
        ("ما هي عاصمة إيطاليا؟", "Arab"),
        ("意大利的首都是哪里", "Hani"),
        ("イタリアの首都はどこですか", "Jpan"),
        ("이탈리아의 수도는?", "Kore"),
        ("translate 意大利的首都是哪里 please", "Latn"),
        ("1 + 1 = ?", NO_SCRIPT),
        ("", NO_SCRIPT),
    ],
)
def test_a_question_is_in_the_script_of_most_letters(text, script):
    assert script_of(text) == script
