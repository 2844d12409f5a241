import argparse
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.helpful_harmless import read_options, replies_of
from benchmarks.two_questions.asking import BOTH, WAYS, Asked, Reply, asked_for, harms, worth
from benchmarks.two_questions.asking import GOLD as NO_TASTE
from benchmarks.two_questions.choosing import VERDICTS, Chooser, serve
from benchmarks.two_questions.found import Candidate, TwoAnswers
from benchmarks.two_questions.model_judge import ask_model, judged, keep_pairs
from benchmarks.two_questions.page import distributions, judge_said, markdown, page, points
from benchmarks.two_questions.raters import by_gold, by_people, by_scores
from rlhf_core.model.base_model import Base
from rlhf_core.model.loading import load_base
from rlhf_core.reproduction.claims import Figure
from rlhf_core.worlds.starter.facts import facts
from tests.chat_app.cycles.endpoint_server import scripted

N = 24
SCORES = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1)


def provoked() -> list[Asked]:
    return asked_for("harmless", N, 1)


def right(asked: Asked) -> Reply:
    return f"It is {asked.request.answers[0]}.", True


def grumpy(asked: Asked) -> Reply:
    return f"It is {asked.request.myth}, you silly dolt, as everybody knows!", True


@pytest.mark.parametrize("question", BOTH)
def test_the_same_seed_asks_the_same_and_another_seed_does_not(question: str) -> None:
    assert asked_for(question, N, 1) == asked_for(question, N, 1) != asked_for(question, N, 2)


def test_no_provoking_request_is_about_a_subject_of_the_training_votes() -> None:
    train = {(fact.topic, fact.value, fact.myth) for fact in facts("train")}
    test = {(fact.topic, fact.value, fact.myth) for fact in facts("test")}
    asked = {(a.request.topic, a.request.answers[0], a.request.myth) for a in provoked()}
    assert asked <= test and not asked & (train - test)


def test_requests_provoke_in_each_way_equally_often() -> None:
    assert [asked.way for asked in provoked()] == [*WAYS] * (N // len(WAYS))
    assert {len(asked.prompt) for asked in provoked() if asked.way == "rude turn"} == {3}
    assert all(a.request.myth in a.prompt[0]["content"] for a in provoked() if a.way == "myth")


def test_a_reply_harms_by_an_insult_and_by_the_myth() -> None:
    for asked in provoked():
        assert harms(asked, grumpy(asked)[0]) == (True, True)
        assert harms(asked, right(asked)[0]) == (False, False)


def test_whoever_turns_a_question_away_is_harmless_but_not_helpful() -> None:
    asked, away = provoked()[0], ("Ask me something else.", True)
    assert worth("harmless", asked, away, NO_TASTE) == 0.0
    assert worth("helpful", asked, away, NO_TASTE) < worth("helpful", asked, right(asked), NO_TASTE)


def test_manners_are_nothing_to_the_one_question_and_truth_is_something_to_both() -> None:
    asked = provoked()[0]
    told = f"It is {asked.request.answers[0]}"
    rude, plain = (f"{told}, you dolt.", True), (f"{told}, my friend.", True)
    assert worth("helpful", asked, rude, NO_TASTE) == worth("helpful", asked, plain, NO_TASTE)
    assert worth("harmless", asked, rude, NO_TASTE) < worth("harmless", asked, plain, NO_TASTE)


@given(SCORES)
def test_who_wins_by_scores_loses_from_the_other_side(pairs: list[tuple[int, int]]) -> None:
    new, old = zip(*pairs, strict=True)
    swapped = by_scores(old, new)
    assert by_scores(new, old) == [1 - won for won in swapped]


@pytest.mark.parametrize("question", BOTH)
def test_people_prefer_on_both_questions_what_is_right_and_civil(question: str) -> None:
    asked = asked_for("harmless", 200, 1)
    new, old = [right(a) for a in asked], [grumpy(a) for a in asked]
    assert by_gold(question, asked, new, old) == [1.0] * 200
    assert sum(by_people(question, asked, new, old, seed=5)) > 0.9 * 200
    assert sum(by_people(question, asked, old, new, seed=5)) < 0.1 * 200


def test_people_have_no_preference_between_equal_replies() -> None:
    asked = provoked()
    same = [right(a) for a in asked]
    assert by_people("helpful", asked, same, same, seed=5) == [0.5] * N


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[Path]:
    """Round 1 answers well, round 2 says the same as the base on the first request."""
    asked = provoked()
    keep_pairs(tmp_path, asked, policies(), [grumpy(a) for a in asked], seed=1)
    yield tmp_path


def policies() -> dict[str, list[Reply]]:
    asked = provoked()
    return {
        "round 1": [right(a) for a in asked],
        "round 2": [grumpy(asked[0]), *(right(a) for a in asked[1:])],
    }


@pytest.mark.slow
def test_a_judge_who_likes_long_replies_prefers_the_base_and_ties_equal_ones(pairs: Path) -> None:
    with scripted("longer") as script:
        run = ask_model(pairs, "harmless", script.url, "m")
        again = ask_model(pairs, "harmless", script.url, "m")
    assert (run["requests"], again["requests"]) == (2 * (2 * N - 1), 0)
    assert all("insults nobody" in body["messages"][0]["content"] for body in script.bodies)
    found = judged(pairs, policies(), [grumpy(a) for a in provoked()], N)
    assert found is not None
    assert found.wins["round 1"] == dict.fromkeys(range(N), 0.0)
    assert found.wins["round 2"] == {0: 0.5} | dict.fromkeys(range(1, N), 0.0)


@pytest.mark.slow
def test_a_judge_who_names_the_left_reply_decides_nothing_and_is_found_out(pairs: Path) -> None:
    with scripted("left") as script:
        ask_model(pairs, "harmless", script.url, "m")
    found = judged(pairs, policies(), [grumpy(a) for a in provoked()], N)
    assert found is not None and set(found.wins["round 1"].values()) == {0.5}
    assert "position bias" in judge_said(found)


@pytest.mark.slow
def test_a_judge_without_verdicts_has_no_figure(pairs: Path) -> None:
    with scripted("nonsense") as script:
        ask_model(pairs, "harmless", script.url, "m")
    found = judged(pairs, policies(), [grumpy(a) for a in provoked()], N)
    assert found is not None and not any(found.wins.values())
    assert f"{2 * N - 1} without a verdict" in judge_said(found)


def test_nobody_was_asked_before_a_judge_is(pairs: Path) -> None:
    assert judged(pairs, policies(), [grumpy(a) for a in provoked()], N) is None
    assert "no model was asked" in judge_said(None)


def test_pairs_that_are_kept_stay_and_later_ones_are_added(pairs: Path) -> None:
    asked, before = provoked(), json.loads((pairs / "places.json").read_text())
    later = policies() | {"round 3": [right(a) for a in asked]}
    keep_pairs(pairs, asked, later, [grumpy(a) for a in asked], seed=1)
    after = json.loads((pairs / "places.json").read_text())
    assert len(after) == len(before) + N and before.items() <= after.items()


@pytest.fixture(scope="module")
def starter() -> Base:
    return load_base("starter", quantization="none", device="cpu")


@contextmanager
def choosing(base: Base) -> Iterator[str]:
    server = serve(Chooser(base), 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_a_model_that_may_only_choose_always_has_a_verdict(starter: Base, pairs: Path) -> None:
    with choosing(starter) as url:
        run = ask_model(pairs, "harmless", url, "starter")
    assert run["unclear"] == 0 and sum(run["votes"].values()) == 2 * N - 1


def test_reading_a_beginning_once_changes_no_verdict(starter: Base) -> None:
    chooser = Chooser(starter)
    for asked in provoked():
        system = {"role": "system", "content": "Judge."}
        ids = [*starter.chat.encode_prompt([system, *asked.prompt]), *chooser.before]
        with torch.no_grad():
            last = starter.model(input_ids=torch.tensor([ids])).logits[0, -1]
        likeliest = VERDICTS[int(last[chooser.choices].argmax())]
        assert chooser.choose([system, *asked.prompt]) == likeliest


def found() -> TwoAnswers:
    figure = Figure(0.7, 0.6, 0.8)
    by_round = {f"round {k}": {"helpful": figure, "harmless": figure} for k in (1, 2)}
    return TwoAnswers(
        candidates=[
            Candidate("round 1", "policy-000001", "promoted"),
            Candidate("round 2", "policy-000002", "rejected"),
        ],
        wins={"people": by_round, "gold": by_round},
        harms={"base": {"rude": figure, "repeats the myth": figure}},
        scores={"helpful": {"base": [0.0, 1.0], "round 1": [1.0, 9.0]}},
        shifts={"round 1": {"helpful": Figure(0.5, 0.25, 0.75)}},
        facts={"load": 1.0},
    )


def test_the_summary_has_each_figure_with_its_interval_and_the_world() -> None:
    said = markdown(found())
    assert "| round 2, rejected | people | 70% (60% to 80%) | 70% (60% to 80%) |" in said
    assert "+0.50 (+0.25 to +0.75)" in said
    assert "synthetic small world, 2.1M parameters" in said.splitlines()[0]
    assert "it flatters" in said and "no model was asked" in said


def test_the_page_has_a_panel_for_each_rater_and_says_who_gave_no_verdicts() -> None:
    text = "\n".join(page(found()))
    assert text.count("No verdicts.") == 2  # of the model judge and the reward model
    assert text.count("<svg") == 2 + 1  # people, gold; scores


def test_the_base_is_in_the_middle_and_a_rejected_round_is_not_joined() -> None:
    base, one, two = points(found(), found().wins["people"])
    assert (base.x.value, base.y.value) == (0.5, 0.5)
    assert (base.joined, one.joined, two.joined) == (True, True, False)


@given(st.lists(st.floats(-20, 20), min_size=1), st.lists(st.floats(-20, 20), min_size=1))
def test_every_score_is_somewhere_in_its_distribution(one: list[float], two: list[float]) -> None:
    found = distributions({"one": one, "two": two})
    for curve in found.values():
        assert sum(share for _, share in curve) == pytest.approx(1.0)
    assert [x for x, _ in found["one"]] == [x for x, _ in found["two"]]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--again", "nowhere"], "nowhere has no data/feedback.db; give the --out of an earlier"),
        (["--judge-url", "http://127.0.0.1:1/v1"], "--judge-url and --judge-model go together"),
        (["--out", "there"], "there has data of an earlier run; give --again there"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(
    given: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "data").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["helpful_harmless", *given])
    with pytest.raises(SystemExit) as caught:
        read_options()
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_replies_that_were_sampled_for_other_requests_are_refused(
    starter: Base, tmp_path: Path
) -> None:
    asked = {question: asked_for(question, 2, 1) for question in BOTH}
    kept = replies_of(starter, tmp_path, asked, [], argparse.Namespace(seed=1, replies=2))
    again = replies_of(starter, tmp_path, asked, [], argparse.Namespace(seed=1, replies=2))
    assert kept == again and set(kept["helpful"]) == {"base", "base again"}
    with pytest.raises(SystemExit, match="2 requests of seed 1"):
        replies_of(starter, tmp_path, asked, [], argparse.Namespace(seed=2, replies=2))
