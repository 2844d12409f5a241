import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_core.config import GateSettings
from rlhf_core.gate.checks import check_policy, decide
from rlhf_core.gate.evaluation import fit_of_shared_replies, increase_low
from rlhf_core.gate.replies import (
    _improbable_ends,
    repeats,
    reply_signs,
    reply_statistics,
    same_rate,
)
from rlhf_core.model.base_model import Response
from rlhf_core.model.loading import load_base
from rlhf_core.model.sources import STARTER_MODEL
from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.world import ask
from tests.rlhf_core.gate.test_checks import BETTER

CAPITALS = [f for f in facts("train") if f.topic == "capital"]
WORDINGS = ("What is the capital of {}?", "Capital of {}?", "Name {}'s capital.", "{}: capital?")
SETTINGS = GateSettings()
Z = SETTINGS.confidence_z

TABLE = "| Item | Price |\n| --- | --- |\n| Shirt | $10 |\n| Skirt | $20 |\n| Shoes | $40 |"
LIST = "Here are three ideas:\n1. Walk to work.\n2. Sleep more.\n3. Eat less sugar."
CODE = "Use this:\n```python\nfor i in range(3):\n    print(i)\n```"
LONG = (
    "No, no, no: that is not how bread is made. Mix flour, water, salt and yeast, and wait for an "
    "hour. Fold the dough, and wait again. Then shape it, let it rise once more and bake it at 230 "
    "degrees until it is brown. Let it cool before you cut it, and keep the rest in a linen bag."
)


@pytest.fixture(scope="module")
def starter():
    return load_base("starter", quantization="nf4")


def prompts_of(texts):
    return [[{"role": "user", "content": text}] for text in texts]


def responses(base, texts, *, finished=True):
    ids = [tuple(base.chat.encode_reply(t, finished=finished)) for t in texts]
    return [Response(t, i, finished) for t, i in zip(texts, ids, strict=True)]


def measured(base, texts, *, finished=True, prompts=None):
    prompts = prompts or prompts_of(f"Question {n}?" for n in range(len(texts)))
    found = responses(base, texts, finished=finished)
    return reply_statistics(prompts, found, reply_signs(base, prompts, found))


# Single signs

ASKED = [ask(f, WORDINGS[0]) for f in CAPITALS[:40]]
PROMPTS = prompts_of(r.text for r in ASKED)
STATEMENTS = [r.statement.format(r.answers[0]) for r in ASKED]


def test_whole_sentences_show_no_sign_of_collapse(starter):
    found = measured(starter, STATEMENTS, prompts=PROMPTS)
    assert found.empty_rate == found.unfinished_rate == found.repeated_rate == found.cut_rate == 0
    assert (found.distinct_rate, found.same_rate) == (1, 0)  # forty capitals


@pytest.mark.parametrize("letters", [False, True])
def test_cut_sentences_are_counted_as_cut(starter, letters):
    cut = [s[: len(s) * 2 // 3] if letters else " ".join(s.split()[:-1]) for s in STATEMENTS]
    assert measured(starter, cut, prompts=PROMPTS).cut_rate > 0.8


@pytest.mark.parametrize(
    "text", [LONG, TABLE, CODE, "Sure! 😀", "是的。", 'She said "yes."', "(No.)", "**Yes!**", "5%"]
)
def test_an_end_that_reads_well_is_not_cut_however_improbable_the_base_finds_it(starter, text):
    assert measured(starter, [text] * 2).cut_rate == 0


def test_a_reply_may_end_with_any_end_that_the_model_declares(tmp_path):
    shutil.copytree(STARTER_MODEL, tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    rare = 40  # a token that the starter would never write at the end
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [1, rare]}))
    base = load_base(str(tmp_path / "model"), quantization="none")
    ended = [replace(r, token_ids=(*r.token_ids[:-1], rare)) for r in responses(base, STATEMENTS)]
    places = range(len(ended))
    assert len(_improbable_ends(base, PROMPTS, ended, places, (None,))) < 0.1 * len(ended)


def test_empty_and_endless_replies_are_counted(starter):
    half = ["", *["Paris."] * (len(PROMPTS) - 1)]
    assert measured(starter, half, prompts=PROMPTS).empty_rate == 1 / 40
    endless = measured(starter, STATEMENTS, finished=False, prompts=PROMPTS)
    assert (endless.unfinished_rate, endless.cut_rate) == (1.0, 0.0)  # stopped, not cut


def test_lengths_are_in_words_and_tokens_without_the_end(starter):
    text = "The capital of France is Paris."
    whole, stopped = (measured(starter, [text], finished=f) for f in (True, False))
    assert whole.mean_words == 6
    assert whole.mean_tokens == stopped.mean_tokens == len(starter.chat.encode_reply(text)) - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Happy Happy Happy to help", True),
        ("it is so it is so it is so", True),
        ("very good very good", False),
        ("The capital of France is Paris.", False),
        ("", False),
        ("👍", False),
        ("no a no b no c no no d", True),
        (LONG, False),
        (TABLE, False),
        (LIST, False),
        (CODE, False),
        (LONG + " I hope that this helps you with your bread." * 4, True),
        (" ".join(LONG.split()[:40]) + " and so on" * 5, True),
        ("| " * 60, True),
        ("哈哈哈哈哈", True),
        ("東京は日本の首都です。", False),
    ],
)
def test_repetition_is_seen(text, expected):
    assert repeats(text) is expected


words = st.lists(st.sampled_from("abcdefghijklmnopqrst"), min_size=1, max_size=25)


@given(words, words, st.integers(3, 6))
def test_whatever_comes_three_times_in_a_row_and_fills_a_fifth_is_a_loop(before, loop, times):
    text = " ".join(before + loop * times)
    assert repeats(text) or len(loop * times) < 0.2 * len(text.split())


@given(st.integers(1, 300))
def test_words_that_never_come_again_are_no_loop_however_many(n):
    assert not repeats(" ".join(map(str, range(n))))


# Alike replies

replies = st.lists(st.sampled_from(["Yes.", "No.", "Paris.", "Rome."]), min_size=1, max_size=12)


@given(replies, st.integers(2, 4))
def test_several_replies_to_one_question_are_never_compared(texts, times):
    questions = [str(n) for n in range(len(texts))]
    once, often = same_rate(questions, texts), same_rate(questions * times, texts * times)
    assert once == pytest.approx(often)
    assert 0 <= once <= 1
    assert same_rate(["one question"] * len(texts), texts) == 0


@given(st.integers(2, 40), st.integers(1, 40))
def test_the_fewer_stock_replies_the_more_questions_get_the_same(questions, stock):
    texts = [f"Reply {n % stock}." for n in range(questions)]
    rate = same_rate([str(n) for n in range(questions)], texts)
    assert rate >= max(0.0, (questions / stock - 1) / (questions - 1) - 1e-9)  # evenly dealt
    assert (rate == 1) is (stock == 1) and (rate == 0) is (stock >= questions)


def test_case_and_punctuation_make_no_other_reply():
    assert same_rate(["a", "b"], ["I am happy to help!", "I am happy to help."]) == 1


# Whole policies, as the gate sees them


def votes(prompts, answers):
    """A score that finds the right reply better three times in four, and likes thanks even more."""
    rng, right = random.Random(0), dict(zip(map(str, prompts), answers, strict=True))

    def score(asked, said):
        pairs = zip(asked, said, strict=True)
        worth = [float(s == right[str(p)]) + 2.0 * s.startswith("Thank") for p, s in pairs]
        return torch.tensor([w + rng.gauss(0, 1) for w in worth])

    return score


def gate(base, prompts, new, old, *, score=None):
    """The verdict on replies, all else being well."""
    score = score or (lambda p, r: torch.zeros(len(r)))
    keys = [str(p) for p in prompts]
    signs_new, signs_old = (reply_signs(base, prompts, found) for found in (new, old))
    candidate = reply_statistics(prompts, new, signs_new)
    fit_low = fit = float("nan")
    if candidate.same_rate > SETTINGS.max_same_rate:
        texts = [r.text for r in new]
        fit_low, fit = fit_of_shared_replies(score, prompts, texts, z=Z, seed=0)
    evaluation = replace(
        BETTER,
        candidate=candidate,
        served=reply_statistics(prompts, old, signs_old),
        increases={s: increase_low(signs_new[s], signs_old[s], keys, z=Z) for s in signs_new},
        fit=fit,
        fit_low=fit_low,
    )
    return decide(check_policy(evaluation, SETTINGS))


NARROW = prompts_of(w.format(f.subject) for f in CAPITALS[:20] for w in WORDINGS)
ANSWERS = [f"{f.value}." for f in CAPITALS[:20] for _ in WORDINGS]
OPPOSITES = ["Cold.", "Small.", "Old."] * 8
YES_NO = ["Yes.", "No.", "No.", "Yes."] * 20
OTHERS = [f"Reply number {n} is a sentence." for n in range(80)]


@pytest.mark.parametrize(
    "texts", [ANSWERS, YES_NO, OPPOSITES, [f"{LONG} ({n})" for n in range(20)], [LIST, TABLE, CODE]]
)
def test_right_replies_pass_however_narrow_the_topic_and_whatever_their_form(starter, texts):
    texts = (texts * 27)[: max(len(texts), 80)] if len(texts) == 3 else texts
    prompts = NARROW[: len(texts)]
    old = responses(starter, OTHERS[: len(texts)])
    answer = gate(starter, prompts, responses(starter, texts), old, score=votes(prompts, texts))
    assert answer.promote, answer.reasons


@pytest.mark.parametrize("again", [1, 4])
@pytest.mark.parametrize(
    "stock",
    [
        ["Thank you for asking!"],
        ["Thank you for asking!", "Yes.", "No."],
        ["Yes.", "No."],
        ["Thank you for asking!", "Yes.", "No.", "I do not know."],
    ],
)
def test_stock_replies_are_blocked_however_they_please(starter, stock, again):
    rng = random.Random(len(stock) + again)
    texts = [rng.choice(stock) for _ in NARROW * again]
    prompts, old = NARROW * again, responses(starter, OTHERS * again)
    score = votes(NARROW, ANSWERS)
    answer = gate(starter, prompts, responses(starter, texts), old, score=score)
    assert [c.name for c in answer.checks if not c.passed] == ["same_rate"]
    assert "served policy: 0%" in answer.reasons[0]


@pytest.mark.parametrize("stock", ["Thank you for asking!", "I do not know."])
def test_right_replies_to_a_few_questions_do_not_excuse_a_stock_reply_to_most(starter, stock):
    texts = [*ANSWERS[:8], *[stock] * 72]
    old = responses(starter, OTHERS)
    answer = gate(starter, NARROW, responses(starter, texts), old, score=votes(NARROW, ANSWERS))
    assert [c.name for c in answer.checks if not c.passed] == ["same_rate"]


def test_the_right_capital_every_time_is_as_varied_as_the_capitals(starter):
    found = measured(starter, ANSWERS * 4, prompts=NARROW * 4)
    assert found.same_rate == pytest.approx(3 / 79)
    assert found.distinct_rate == 20 / 80


# The contract's length, and how replies end: against the served policy


def mixed(base, share, one, other, n=80):
    """Replies of two kinds, `share` of the first; a kind is how it begins, ends, and whether."""
    chosen = [one if (i * 37) % n < share * n else other for i in range(n)]
    return [
        responses(base, [f"{text} {i} {end}".strip()], finished=finished)[0]
        for i, (text, end, finished) in enumerate(chosen)
    ]


WHOLE = ("This is reply", "and no more.", True)
STOPPED = ("This reply goes on and on up to the end, where it is stopped, number", "and", False)
CUT = ("The capital of the land", "is the ci", True)
LOOP = ("This is reply", "and so on" + " and so on" * 9 + ".", True)


@pytest.mark.parametrize(
    ("sign", "one", "before", "after", "promoted"),
    [
        ("unfinished", STOPPED, 0.9, 0.95, True),  # of an instruct model in a short contract
        ("unfinished", STOPPED, 0.9, 0.9, True),
        ("unfinished", STOPPED, 0.3, 0.35, True),
        ("unfinished", STOPPED, 0.95, 0.2, True),
        ("unfinished", STOPPED, 0.0, 0.05, True),
        ("unfinished", STOPPED, 0.0, 1.0, False),
        ("unfinished", STOPPED, 0.0, 0.2, False),
        ("unfinished", STOPPED, 0.5, 1.0, False),
        ("cut", CUT, 0.15, 0.2, True),
        ("cut", CUT, 0.0, 0.2, False),
        ("cut", CUT, 0.2, 0.6, False),
        ("repeated", LOOP, 0.1, 0.1, True),
        ("repeated", LOOP, 0.0, 0.3, False),
        ("repeated", LOOP, 0.2, 1.0, False),
    ],
)
def test_a_sign_blocks_if_the_candidate_shows_it_clearly_more_often(
    starter, sign, one, before, after, promoted
):
    old, new = (mixed(starter, share, one, WHOLE) for share in (before, after))
    answer = gate(starter, NARROW, new, old)
    failed = [] if promoted else [f"{sign}_increase"]
    assert [c.name for c in answer.checks if not c.passed] == failed
    said = next(c.text for c in answer.checks if c.name == f"{sign}_increase")
    assert f"{after:.0%} of replies (served policy: {before:.0%})" in said


def test_empty_replies_block_even_if_the_served_policy_gives_them(starter):
    some = responses(starter, ["", "", *OTHERS[2:]])
    assert not gate(starter, NARROW, some, some).promote


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_an_increase_is_shown_at_most_as_large_as_it_was_seen(shown):
    new, old = zip(*shown, strict=True)
    clusters = [str(n) for n in range(len(shown))]
    seen = (sum(new) - sum(old)) / len(shown)
    assert increase_low(new, old, clusters, z=Z) < seen
    assert increase_low(new, new, clusters, z=Z) <= 0
    worse = increase_low([True] * len(shown), [False] * len(shown), clusters, z=Z)
    assert worse > 0 or len(shown) < 3
