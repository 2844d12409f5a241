"""The command `judge` against a real endpoint over HTTP, and against our own service."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from chat_app.commands.main import app
from chat_app.commands.people.judge import PROBE_REQUESTS
from chat_app.cycles.judging.probes import probes
from chat_app.cycles.judging.verdicts import DEFAULT_PRINCIPLES, picked, read_principles
from chat_app.errors import ChatAppError, InvalidRequestError
from feedback_store.store import FeedbackStore
from tests.chat_app.cycles.endpoint_server import Scripted, scripted
from tests.chat_app.serving import Running, running, until
from tests.feedback_store.conftest import Chat

PAIRS = 16


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    with FeedbackStore(tmp_path / "feedback.db") as store:
        ann = Chat(store)
        for number in range(PAIRS):
            texts = (f"Paris {number}.", f"It is Paris, as everybody knows, dear friend {number}.")
            shown = ann.shown(f"question {number}", *texts[:: 1 if number % 2 else -1])
            ann.choose(shown, "a")
    yield tmp_path


def judge(data: Path, script: Scripted, *more: str) -> Result:
    given = ["judge", "--endpoint", script.url, "--model", "m", "--data", str(data), "--json"]
    return CliRunner().invoke(app, [*given, *more])


def report(result: Result) -> dict:
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("way", "finding"),
    [
        ("left", "position bias: on the 16 of 16 pairs on which its two answers differ, they"),
        ("longer", "length: it prefers the longer reply +50%"),
        ("flattered", "flattery: it prefers a reply with nothing added but flattery"),
    ],
)
def test_a_biased_judge_is_found_out_by_its_report(data: Path, way: str, finding: str) -> None:
    with scripted(way) as script:
        found = report(judge(data, script))["judges"][0]["found"]
    assert any(text.startswith(finding) for text in found), found
    for kind, falls_for in (("padding", "longer"), ("flattery", "flattered")):
        assert (way == falls_for) == any(text.startswith(kind) for text in found)


def test_a_reply_that_flatters_is_as_long_as_the_other():
    pairs = [pair for pair in probes() if pair.candidates_id.startswith("flattery")]
    assert len(pairs) == 12
    assert all(len(pair.replies["a"]) == len(pair.replies["b"]) for pair in pairs)


def test_the_same_run_again_asks_nothing(data: Path) -> None:
    with scripted("longer") as script:
        first, second = (report(judge(data, script)) for _ in range(2))
    assert first["run"]["votes"] == {"a": 8, "b": 8} and first["run"]["requests"] == 80
    assert second["run"]["votes"] == {} and second["run"]["requests"] == 0
    assert set(script.asked.values()) == {1}
    assert all(body["store"] is False for body in script.bodies)


def test_what_the_endpoint_cannot_answer_is_asked_again_and_never_a_vote(data: Path) -> None:
    with scripted("longer", faults=[429, 503, 500]) as script:
        found = report(judge(data, script, "--no-probes", "--limit", "2"))["run"]
    assert sum(found["votes"].values()) == 2 and found["failed"] == 0
    assert found["requests"] == 4 + 3


def test_answers_without_a_verdict_are_counted_and_no_votes(data: Path) -> None:
    with scripted("nonsense") as script:
        found = report(judge(data, script, "--no-probes"))
    assert found["run"]["votes"] == {} and found["run"]["unclear"] == 2 * PAIRS
    with FeedbackStore(data / "feedback.db") as store:
        assert {choice.rater_id for choice in store.choices()} == {"ann"}


def test_an_endpoint_that_never_answers_ends_the_run_with_what_is_stored(data: Path) -> None:
    with scripted("longer", faults=[503] * 99) as script:
        result = judge(data, script, "--no-probes")
    assert isinstance(result.exception, ChatAppError)
    assert "gave no answer in 5 tries, the last: 503" in str(result.exception)
    assert json.loads(result.stdout)["run"]["failed"] == 1


@pytest.mark.parametrize(
    ("status", "message", "counted"),
    [
        (500, "not this one", "failed"),
        (400, "not this one", "refused"),
        (400, "context_length_exceeded", "too_long"),
    ],
)
def test_a_question_that_gets_no_answer_blocks_no_other_and_is_asked_again(
    data: Path, status: int, message: str, counted: str
) -> None:
    with scripted("longer") as script:
        script.poison, script.refusal = ("user: question 0\n", status), message
        first = report(judge(data, script, "--no-probes"))["run"]
        assert (first[counted], sum(first["votes"].values())) == (1, PAIRS - 1)
        script.poison = None
        second = report(judge(data, script, "--no-probes"))["run"]
    assert sum(second["votes"].values()) == 1


def test_an_answer_that_was_cut_is_no_verdict(data: Path) -> None:
    with scripted("longer") as script:
        script.finish = "length"
        found = report(judge(data, script, "--no-probes"))["run"]
    assert (found["unclear"], found["votes"]) == (2 * PAIRS, {})


@pytest.mark.parametrize("faults", [[401], [404], [400] * 99, [403] * 99])
def test_an_endpoint_that_refuses_everything_is_one_clear_line(
    data: Path, faults: list[int]
) -> None:
    with scripted("longer", faults=faults) as script:
        result = judge(data, script)
    assert isinstance(result.exception, InvalidRequestError)
    assert f"refuses the request ({faults[0]}" in str(result.exception)
    with FeedbackStore(data / "feedback.db") as store:
        assert [one.kind for one in store.raters()] == ["person"], "no judge is left behind"


@pytest.mark.parametrize(("cut", "hinted"), [("/v1", True), ("", False)])
def test_an_address_without_v1_that_has_nothing_gets_a_hint(
    data: Path, cut: str, hinted: bool
) -> None:
    with scripted("longer", faults=[404]) as script:
        script.url = script.url.removesuffix(cut)
        result = judge(data, script)
    assert (f"did you mean {script.url}/v1?" in str(result.exception)) is hinted


def told(data: Path, script: Scripted, *more: str) -> str:
    """What a run tells people."""
    given = ["judge", "--endpoint", script.url, "--model", "m", "--data", str(data), *more]
    result = CliRunner().invoke(app, given)
    assert result.exception is None, result.exception
    return result.stdout


def test_a_run_with_nothing_to_ask_says_why(data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        cat = Chat(store, "cat")
        more = cat.shown("rank them", *(f"reply {label}" for label in "abcdefghi"))
        store.add_ranking(more, cat.rater, [[label] for label in "abcdefghi"])
    sets = "sets of more than two replies are not judged: 1"
    with scripted("longer") as script:
        told(data, script, "--no-probes")
        asked = len(script.bodies)
        says = f"nothing left to ask ({PAIRS} pairs with --pairs judged); {sets}"
        assert says in told(data, script, "--no-probes", "--pairs", "judged")
        none = told(data, script, "--no-probes", "--pairs", "unjudged")
        assert "nothing to ask: there are no pairs with --pairs unjudged\n" in none
    assert len(script.bodies) == asked == 2 * PAIRS


def test_what_is_too_long_is_told_apart_with_its_remedy(data: Path) -> None:
    with scripted("longer") as script:
        script.poison, script.refusal = ("", 400), "context_length_exceeded"
        says = told(data, script)
    assert f"{PAIRS + 24} pairs or probes too long for it" in says
    assert "is asked again on the next run" in says and "reply.prompt_tokens" in says
    with FeedbackStore(data / "feedback.db") as store:
        assert store.judges() == []


def test_probes_come_on_top_of_the_limit_and_their_number_is_told(data: Path) -> None:
    with scripted("longer") as script:
        found = report(judge(data, script, "--limit", "4"))["run"]
    assert (found["pairs"], found["requests"]) == (4, 8 + PROBE_REQUESTS)
    docs = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    assert f"{PROBE_REQUESTS} requests" in docs


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--endpoint", "https://judge.example.org/v1", "--model", "m"], "give --send-texts"),
        (["--endpoint", "judge", "--model", "m"], "is no address"),
        (["--model", "m"], "give --endpoint and --model"),
        (["--report", "--endpoint", "http://127.0.0.1:1/v1"], "--report asks nothing; leave out"),
        (
            ["--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "--key-variable", "NO_KEY"],
            "NO_KEY has no key",
        ),
    ],
)
def test_wrong_usage_sends_nothing(data: Path, given: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["judge", "--data", str(data), *given])
    assert isinstance(result.exception, InvalidRequestError) and says in str(result.exception)


def test_what_is_sent_away_is_noted_and_forgetting_says_where_it_went(data: Path) -> None:
    with FeedbackStore(data / "feedback.db") as store:
        store.add_rater("bob")
    with scripted("longer") as script:
        report(judge(data, script, "--no-probes", "--limit", "2"))
        report(judge(data, script, "--no-probes", "--limit", "2", "--send-texts"))
    to = f"{script.url} m"
    with FeedbackStore(data / "feedback.db") as store:
        (noted,) = [one.detail for one in store.audit_log() if one.action == "texts_sent"]
        assert noted == {"by": "operator", "to": to, "pairs": "all", "at_most": 2}
        assert [*store.known_exports()] == [to]
    for rater, told in (("bob", False), ("ann", True)):
        forgotten = CliRunner().invoke(app, ["forget", rater, "--yes", "--data", str(data)])
        assert forgotten.exit_code == 0
        assert (f"texts of this rater were sent to {to}" in forgotten.stdout) is told


def test_principles_are_paragraphs_and_another_text_is_another_judge(
    data: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.txt"
    own.write_text("Prefer\nrhymes.\n\n\nPrefer haste.\n")
    assert read_principles(own) == "Prefer rhymes.\n\nPrefer haste."
    assert len(read_principles(DEFAULT_PRINCIPLES).split("\n\n")) == 6
    with scripted("longer") as script:
        report(judge(data, script, "--no-probes", "--limit", "1"))
        report(judge(data, script, "--no-probes", "--limit", "1", "--principles", str(own)))
    assert "Prefer rhymes." in script.bodies[-1]["messages"][0]["content"]
    told = CliRunner().invoke(app, ["judge", "--report", "--data", str(data), "--json"])
    assert len(report(told)["judges"]) == 2
    own.write_text("\n")
    with pytest.raises(InvalidRequestError, match="write one principle a paragraph"):
        read_principles(own)


@pytest.mark.parametrize(
    ("answer", "means"),
    [
        ("Because it is true: [[A]]", "b"),
        ("[[B]]", "a"),
        ("(C)", "tie"),
        ("[[A]] or [[B]]", None),
        ("Reply A is better.", None),
        ("The better one is **[[B]]**.", "a"),
        ("Reply A would win under [[A]] if it were right, but", None),
        ("", None),
    ],
)
def test_only_a_clear_verdict_is_one(answer, means):
    assert picked(answer, first_shown="b") == means


def test_a_killed_run_goes_on_without_asking_twice(data: Path) -> None:
    with scripted("longer") as script:
        script.most = 9
        command = [sys.executable, "-m", "chat_app", "judge", "--endpoint", script.url]
        command += ["--model", "m", "--data", str(data), "--no-probes"]
        process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
        until(lambda: not script.hold.is_set())
        process.send_signal(signal.SIGKILL)
        process.wait()
        script.most = None
        script.hold.set()
        until(lambda: len(script.bodies) == 10)  # the one that was asked when it was killed
        found = report(judge(data, script, "--no-probes"))
    assert sum(script.asked.values()) == 2 * PAIRS + 1, (
        "only the question without an answer came again"
    )
    assert found["judges"][0]["pairs"] == PAIRS
    with FeedbackStore(data / "feedback.db") as store:
        assert sum(c.rater_id != "ann" for c in store.choices()) == PAIRS


def ask_service(data: Path, url: str) -> dict:
    given = ["--endpoint", f"{url}/v1", "--model", "policy-000000", "--limit", "2", "--no-probes"]
    return report(CliRunner().invoke(app, ["judge", "--data", str(data), "--json", *given]))


@pytest.mark.slow
def test_our_own_service_can_be_asked_and_keeps_nothing_of_it(
    data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text()) | {"max_position_embeddings": 8192}
    (model / "config.json").write_text(json.dumps(config))
    with running(tmp_path / "own", model, reply={"prompt_tokens": 4000, "tokens": 8}) as served:
        found = ask_service(data, served.url)
        assert served.service.store.counts()["messages"] == 0
    assert found["run"]["requests"] == found["run"]["unclear"] == 4, "it answers in noise"
    assert found["judges"][0]["pairs"] == 2


def test_a_pair_that_the_model_cannot_read_is_counted_and_stops_nothing(
    data: Path, served: Running
) -> None:
    found = ask_service(data, served.url)["run"]
    assert (found["too_long"], found["unclear"], found["votes"]) == (2, 0, {})
    assert ask_service(data, served.url)["run"]["too_long"] == 2, "they are asked about again"


def test_status_and_exports_name_a_judges_votes_and_can_do_without(data: Path) -> None:
    with scripted("longer") as script:
        report(judge(data, script, "--no-probes"))
    told = CliRunner().invoke(app, ["status", "--data", str(data)]).stdout
    assert f"{PAIRS}  comparisons by 1 of the kind person\n" in told
    assert f"{PAIRS}  comparisons by 1 of the kind judge, which train nothing" in told

    listed = CliRunner().invoke(app, ["raters", "list", "--data", str(data)]).stdout
    ann, model = sorted(listed.splitlines())
    assert "weight 0.00  trains nothing: 'judge' is not in cycle.data.programs" in model
    assert "trains nothing" not in ann

    def kinds(*more: str) -> set[str]:
        given = ["export", "--data", str(data), "--split", "all", "--with-metadata", *more]
        result = CliRunner().invoke(app, [*given, "--format", "preference"])
        return {json.loads(line)["rater_kind"] for line in result.stdout.splitlines()}

    assert kinds() == {"person"}, "what does not train is not exported for training"
    with FeedbackStore(data / "feedback.db") as store:
        store.let_programs_train(["judge"])
    assert kinds() == {"person", "judge"}
    assert kinds("--without", "judge") == {"person"}
    for more, people in (([], {"person", "judge"}), (["--without", "judge"], {"person"})):
        events = CliRunner().invoke(app, ["export", "--data", str(data), *more]).stdout
        assert {json.loads(line)["rater"]["kind"] for line in events.splitlines()} == people
