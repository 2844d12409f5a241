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

from benchmarks.helpful_harmless import measure, read_options, replies_of
from benchmarks.two_questions.asking import BOTH, WAYS, Asked, Reply, asked_for, harms, worth
from benchmarks.two_questions.asking import GOLD as NO_TASTE
from benchmarks.two_questions.choosing import VERDICTS, Chooser, serve
from benchmarks.two_questions.comparing import compare_rounds, right_without_answer
from benchmarks.two_questions.found import Candidate, RightReplies, TwoAnswers
from benchmarks.two_questions.model_judge import ask_model, judged, keep_pairs
from benchmarks.two_questions.page import crosses, distributions, judge_said, markdown, page
from benchmarks.two_questions.raters import by_gold, by_people, by_scores
from feedback_store import FeedbackStore
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


def test_right_replies_to_what_has_no_answer_are_counted_and_those_to_other_requests_are_not() -> (
    None
):
    asked = asked_for("helpful", 200, 1)
    unknown = [one.request.answers for one in asked].count(("do not know",))
    silent = [one.request.answers for one in asked].count(("text does not say",))
    said = {
        "modest": [("I do not know.", True) for _ in asked],
        "sure": [("It is blue.", True) for _ in asked],
    }
    counts = {n: (c.right, c.asked) for n, c in right_without_answer(asked, said).items()}
    assert unknown > 0 < silent
    assert counts == {"modest": (unknown, unknown + silent), "sure": (0, unknown + silent)}


def test_nothing_is_said_of_requests_without_an_answer_if_there_are_none() -> None:
    asked = provoked()
    assert right_without_answer(asked, {"base": [right(a) for a in asked]}) == {}


def test_a_later_round_is_compared_with_the_first_one_and_the_reward_model_with_gold() -> None:
    asked, rounds = provoked(), [Candidate(f"round {k}", "", "") for k in (2, 3)]
    won, half = [1.0] * N, [1.0, 0.0] * (N // 2)
    answers = TwoAnswers(rounds)
    by_all = {rater: {"round 2": won, "round 3": half} for rater in ("people", "gold")}
    by_all["reward model"] = {"round 2": won, "round 3": won, "base again": half}
    compare_rounds(answers, "helpful", asked, by_all)
    assert all([*answers.changes[rater]] == ["round 3"] for rater in by_all)
    change = answers.changes["people"]["round 3"]["helpful"]
    assert change.value == -0.5 and change.low is not None and change.high is not None
    assert change.low < -0.5 < change.high < 0
    assert answers.changes["reward model"]["round 3"]["helpful"].value == 0
    flattery = {name: by["helpful"].value for name, by in answers.flattery.items()}
    assert flattery == {"round 2": 0.0, "round 3": 0.5}
    assert answers.wins["reward model"]["base again"]["helpful"].value == 0.5


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
    assert "position bias" in judge_said(found) and f", {2 * N - 1} ties" in judge_said(found)


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


def test_keeping_pairs_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    asked, old = provoked(), [grumpy(a) for a in provoked()]
    with pytest.raises(IndexError):  # at the tenth request
        keep_pairs(tmp_path, asked, policies(), old[:9], seed=1)
    before = json.loads((tmp_path / "places.json").read_text())
    keep_pairs(tmp_path, asked, policies(), old, seed=1)
    after = json.loads((tmp_path / "places.json").read_text())
    assert len(before) == 2 * 9 - 1 and len(after) == 2 * N - 1 and before.items() <= after.items()
    assert pairs_stored(tmp_path) == after.keys()


def pairs_stored(folder: Path) -> set[str]:
    with FeedbackStore(folder / "feedback.db") as store:
        judge = store.add_judge("m", "http://127.0.0.1:1/v1", "Judge.")
        return {pair.candidates_id for pair in store.pairs_for_judge(judge.rater_id)}


@pytest.mark.slow
def test_a_pair_whose_place_was_never_written_is_stored_again_and_counts_once(pairs: Path) -> None:
    asked, old, path = provoked(), [grumpy(a) for a in provoked()], pairs / "places.json"
    places = json.loads(path.read_text())
    lost = list(places)[-1]
    path.write_text(json.dumps({k: place for k, place in places.items() if k != lost}))
    keep_pairs(pairs, asked, policies(), old, seed=1)
    with scripted("longer") as script:
        run = ask_model(pairs, "harmless", script.url, "m")
    found = judged(pairs, policies(), old, N)
    assert found is not None and run["requests"] == 2 * 2 * N
    assert found.wins["round 1"] == dict.fromkeys(range(N), 0.0)
    assert found.wins["round 2"] == {0: 0.5} | dict.fromkeys(range(1, N), 0.0)


@pytest.mark.slow
def test_equal_replies_beyond_what_a_judge_was_asked_about_are_no_ties(tmp_path: Path) -> None:
    asked, old = provoked(), [grumpy(a) for a in provoked()]
    new = {"round 1": [right(a) for a in asked[: N - 2]] + old[N - 2 :]}
    keep_pairs(tmp_path, asked[:6], new, old, seed=1)
    with scripted("longer") as script:
        ask_model(tmp_path, "harmless", script.url, "m")
    found = judged(tmp_path, new, old, N)
    assert found is not None and found.wins == {"round 1": dict.fromkeys(range(6), 0.0)}


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
            Candidate("round 2", "policy-000002", "rejected", ("it makes up answers",)),
        ],
        wins={"people": by_round, "gold": by_round},
        changes={"gold": {"round 2": {"helpful": Figure(-0.056, -0.087, -0.026)}}},
        flattery={"round 1": {"harmless": Figure(0.16, 0.12, 0.2)}},
        without_answer={"round 1": RightReplies(20, 38, figure)},
        harms={"base": {"rude": figure, "repeats the myth": figure}},
        scores={"helpful": {"base": [0.0, 1.0], "round 1": [1.0, 9.0]}},
        shifts={"round 1": {"helpful": Figure(0.5, 0.25, 0.75)}},
        facts={
            "trained": {"rounds": 2, "events": 50, "seed": 1},
            "requests": 400,
            "judge_pairs": 25,
            "seed": 1,
            "load": 1.0,
        },
    )


def test_the_summary_has_each_figure_with_its_interval_and_the_world() -> None:
    said = markdown(found())
    assert "| round 2, rejected | people | 70% (60% to 80%) | 70% (60% to 80%) |" in said
    assert "| round 2 less round 1 | gold | -5.6 (-8.7 to -2.6) |  |" in said
    assert "| round 1 | reward model less gold |  | +16.0 (+12.0 to +20.0) |" in said
    assert "| round 1, promoted | 20 of 38 | 70% (60% to 80%) |" in said
    assert "+0.50 (+0.25 to +0.75)" in said
    assert "2 rounds of 50 choices" in said and "round 2, rejected: it makes up answers." in said
    assert "synthetic small world, 2.1M parameters" in said.splitlines()[0]
    assert "it flatters" in said and "no model was asked" in said


def test_the_page_has_a_panel_for_each_rater_and_says_who_gave_no_verdicts() -> None:
    text = "\n".join(page(found()))
    assert text.count("No verdicts.") == 2  # of the model judge and the reward model
    assert text.count("<svg") == 2 + 1  # people, gold; scores


def test_the_page_draws_every_table_of_the_summary_as_a_table() -> None:
    text = "\n".join(page(found()))
    assert "<pre" not in text
    assert text.count("<table>") == markdown(found()).count("\n## ") == 5
    assert "<th scope='row'>round 1, promoted<td class='number'>20 of 38" in text


def test_the_base_is_in_the_middle_and_a_rejected_round_is_not_joined() -> None:
    base, one, two = crosses(found(), found().wins["people"])
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
        (["--out", "there"], "there has the rounds of an earlier run; give --again there"),
        (["--out", "stopped"], "stopped has rounds that never ended; delete it, or give another"),
        (["--again", "stopped"], "stopped has no rounds.json: its rounds never ended; train anew"),
        (["--again", "there", "--rounds", "2"], "--again trains nothing; leave --rounds and"),
        (["--again", "there", "--events", "9"], "--again trains nothing; leave --rounds and"),
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
    for name in ("there", "stopped"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "feedback.db").touch()
    (tmp_path / "there" / "rounds.json").touch()
    monkeypatch.setattr(sys, "argv", ["helpful_harmless", *given])
    with pytest.raises(SystemExit) as caught:
        read_options()
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_rounds_without_a_candidate_are_refused_in_one_line(starter: Base, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    FeedbackStore(tmp_path / "data" / "feedback.db").close()
    asked = {question: asked_for(question, 2, 1) for question in BOTH}
    with pytest.raises(SystemExit, match="made a candidate; train anew with more --events"):
        measure(starter, tmp_path, asked, argparse.Namespace(seed=1, replies=2))


def test_replies_that_were_sampled_for_other_requests_are_refused(
    starter: Base, tmp_path: Path
) -> None:
    asked = {question: asked_for(question, 2, 1) for question in BOTH}
    kept = replies_of(starter, tmp_path, asked, [], argparse.Namespace(seed=1, replies=2))
    again = replies_of(starter, tmp_path, asked, [], argparse.Namespace(seed=1, replies=2))
    assert kept == again and set(kept["helpful"]) == {"base", "base again"}
    with pytest.raises(SystemExit, match="2 requests of seed 1"):
        replies_of(starter, tmp_path, asked, [], argparse.Namespace(seed=2, replies=2))
