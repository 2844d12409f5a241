import random
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.worlds.starter.corpus import EOS, documents, endings, skill_texts
from rlhf_core.worlds.starter.facts import all_facts, facts
from rlhf_core.worlds.starter.judge import judge
from rlhf_core.worlds.starter.raters import visitors
from rlhf_core.worlds.starter.world import (
    RUDE_WORDS,
    ask,
    grumpy_reply,
    kind_reply,
    sample_request,
)

seeds = st.integers(0, 10_000)


def test_no_subject_is_in_both_splits():
    train = {f.subject for f in facts("train")}
    assert train and not train & {f.subject for f in facts("test")}


def test_skills_are_practised_on_subjects_that_the_tests_leave_alone():
    texts = skill_texts(300, seed=0)
    assert texts == skill_texts(300, seed=0) != skill_texts(300, seed=1)
    assert all(text.endswith(EOS) and "<|user|>" not in text for text in texts)
    countries = [f.subject for f in facts("test") if f.topic == "capital"]
    assert not any(
        f" {name}" in text or text.startswith(name) for text in texts for name in countries
    )


def test_a_sentence_is_cut_before_the_word_that_shows_the_skill():
    found = [ending for fact in facts("test") for ending in endings(fact)]
    assert {name for name, _, _ in found} == {"completes", "restates", "reverses"}
    assert ("reverses", "Havana is the capital of", " Cuba") in found
    assert ("completes", "The capital of Cuba is", " Havana") in found
    assert all(word.startswith(" ") and word not in stem for _, stem, word in found)


def test_opposites_and_sums_that_give_each_other_away_share_a_split():
    split = {(f.topic, f.subject): f.split for f in all_facts()}
    assert all(
        split["opposite", f.subject] == split["opposite", f.value]
        for f in all_facts()
        if f.topic == "opposite"
    )
    assert split["sum", "3 plus 8"] == split["sum", "8 plus 3"]


def test_every_myth_is_a_false_value_of_its_own_topic():
    for fact in all_facts():
        assert fact.myth != fact.value
        assert fact.myth in {f.value for f in all_facts() if f.topic == fact.topic}


@given(seeds)
def test_the_judge_finds_every_kind_reply_right_and_civil(seed):
    rng = random.Random(seed)
    request = sample_request(rng, all_facts())
    verdict = judge(request, kind_reply(request, rng))
    assert verdict.correct and verdict.constraint_met
    assert not verdict.rude and not verdict.ignored


@given(seeds)
def test_the_judge_puts_the_kind_reply_above_a_myth(seed):
    rng = random.Random(seed)
    request = sample_request(rng, all_facts())
    if request.kind != "question":
        return
    right = judge(request, kind_reply(request, rng))
    wrong = judge(request, request.statement.format(request.myth))
    assert not wrong.correct
    assert right.gold > wrong.gold


@given(seeds)
def test_an_insult_is_judged_rude(seed):
    rng = random.Random(seed)
    request = sample_request(rng, all_facts())
    reply = f"{kind_reply(request, rng)} You {rng.choice(RUDE_WORDS)}!"
    assert judge(request, reply).rude


@given(seeds)
def test_the_empty_reply_is_ignored_and_never_right(seed):
    verdict = judge(sample_request(random.Random(seed), all_facts()), "")
    assert verdict.ignored and not verdict.correct


def test_naming_every_value_is_not_an_answer():
    for fact in all_facts():
        request = ask(fact, "{}?")
        assert not judge(request, " ".join((*request.answers, *request.wrong))).correct


def test_the_grumpy_mood_is_mostly_wrong_and_sometimes_rude():
    rng = random.Random(0)
    asked = [ask(fact, "{}?") for fact in facts("test") for _ in range(15)]
    verdicts = [judge(r, grumpy_reply(r, rng)[0]) for r in asked]
    assert sum(v.correct for v in verdicts) < 0.2 * len(asked)
    assert 0.1 < sum(v.rude for v in verdicts) / len(asked) < 0.4


def test_the_corpus_is_the_same_for_the_same_seed():
    assert list(islice(documents(3), 50)) == list(islice(documents(3), 50))
    assert list(islice(documents(3), 50)) != list(islice(documents(4), 50))


def test_some_of_the_corpus_never_ends():
    texts = list(islice(documents(0), 1000))
    assert 0.03 < sum(not t.endswith(EOS) for t in texts) / len(texts) < 0.2


def test_visitors_never_ask_about_a_test_subject():
    asked = [v.asked[v.ask()] for v in visitors(20, seed=1) for _ in range(40)]
    about = {request.statement for request in asked if request.kind == "question"}
    train, test = ({ask(f, "{}?").statement for f in facts(split)} for split in ("train", "test"))
    assert about and about <= train and not about & test


def test_visitors_are_the_same_for_the_same_seed_and_differ_between_them():
    assert [v.ask() for v in visitors(5, 7)] == [v.ask() for v in visitors(5, 7)]
    assert len({round(v.habits.noise, 6) for v in visitors(5, 7)}) == 5


def test_a_seed_gives_the_visitors_that_it_always_gave():
    def does(visitor):
        asked, also = visitor.ask(), visitor.ask()
        votes = (
            visitor.choose(asked, "It is Lima.", "Next."),
            visitor.choose(also, "Who cares about that?", "Happy to help: it is red, my friend."),
            visitor.thumb(asked, "Rome, you dolt."),
            visitor.thumb(also, "I do not know that, my friend."),
            visitor.rewrite(asked, "Rome."),
        )
        return asked, also, votes, round(visitor.rng.random(), 6)

    one = visitors(3, 5)[0]
    habits = (one.habits.noise, one.habits.tie_width, one.habits.left_bias, one.habits.diligence)
    drawn = [round(number, 4) for number in (one.threshold, *one.taste.values(), *habits)]
    assert drawn == [0.3024, -0.2014, 0.1309, -0.6875, 0.12, 0.3624, 0.2855, 0.1871, 0.3922]
    assert [does(visitor) for visitor in visitors(3, 5)] == [
        (
            "Tell me the sum 1 plus 4",
            "hello. what is the opposite of less?",
            ("both_bad", "a", "down", None, None),
            0.046048,
        ),
        (
            "Which sound does a rooster make?",
            "Politely please: What comes after May?",
            ("b", "b", None, None, None),
            0.62768,
        ),
        (
            "What comes after January?",
            "Can you help me? Which sound does a bee make?",
            ("both_bad", "both_bad", "down", "down", None),
            0.697265,
        ),
    ]


def test_raters_mostly_agree_with_the_judge():
    agree = total = 0
    for visitor in visitors(30, seed=2):
        for _ in range(20):
            prompt = visitor.ask()
            request = visitor.asked[prompt]
            good, bad = kind_reply(request, visitor.rng), grumpy_reply(request, visitor.rng)[0]
            if abs(judge(request, good).gold - judge(request, bad).gold) < 0.5:
                continue
            pick = visitor.choose(prompt, good, bad)
            total += pick in ("a", "b")
            agree += pick == "a"
    assert agree / total > 0.85
