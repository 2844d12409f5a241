"""A cycle on another machine: evidence out, a result back, and all that can go wrong between."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from chat_app.commands.main import main
from chat_app.cycles.elsewhere.parcels import Files, require_files
from chat_app.cycles.elsewhere.staging import staging_folder
from feedback_store import BASE_ADAPTER, FeedbackStore, ServedBase
from rlhf_core.model.adapter_files import CARD
from rlhf_core.model.adapters import verify_adapter
from tests.chat_app.cycles.test_triggers import honest_votes
from tests.chat_app.serving import publish_copy

pytestmark = pytest.mark.slow
Command = Callable[..., tuple[int, str, str]]
# A cycle of seconds, whose gate lets a random model through.
CONFIG = """
model = "{model}"
quantization = "none"
reply = {{prompt_tokens = 128, tokens = 8}}
[cycle]
min_comparisons = 10
full_comparisons = 0
reward = {{members = 1, min_steps = 12, batch_size = 8, learning_rate = 1e-2}}
policy = {{iterations = 3, batch_size = 8, minibatch_size = 8, kl_budget = 1e9}}
[cycle.gate]
prompts = 20
min_prompts = 2
min_win_rate_low = 0.0
packaged_probes = false
"""


def run(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    preexec_fn: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chat_app", *map(str, words)],
        env=os.environ | dict(env or {}),
        preexec_fn=preexec_fn,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def make_data(data: Path, model: Path) -> Path:
    data.mkdir()
    with FeedbackStore(data / "feedback.db") as store:
        honest_votes(store)
    (data / "config.toml").write_text(CONFIG.format(model=model))
    return data


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` that wrote `evidence.tar`, and the result `out` of its cycle."""
    folder = tmp_path_factory.mktemp("made")
    data = make_data(folder / "data", tiny_model)
    for words in (
        ("evidence", folder / "evidence.tar", "--data", data),
        ("cycle", "--evidence", folder / "evidence.tar", "--out", folder / "out"),
    ):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "data", tmp_path / "data"))


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["feedback-chat", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return run


def contents(data: Path) -> dict[str, str]:
    """The files of a data directory, but for SQLite's own beside the database."""
    files = (path for path in data.rglob("*") if path.is_file() and "feedback.db-" not in path.name)
    return {str(p.relative_to(data)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def rows(data: Path) -> dict[str, int]:
    """What would be different if a result had been added."""
    with FeedbackStore(data / "feedback.db") as store:
        return {
            "cycles": len(store.cycles()),
            "adapters": len(store.adapters()),
            "serving": len(store.servings()),
            "new": store.new_comparisons(),
            "folders": sum(1 for _ in (data / "adapters").glob("*-*")),
        }


def refused(command: Command, data: Path, out: Path, *, code: int, why: str) -> None:
    """The result is refused with one line, and nothing of the data directory has changed."""
    before, kept = rows(data), contents(out)
    found, _, err = command("adapters", "add", out, "--data", data)
    assert (found, len(err.splitlines())) == (code, 1), err
    assert why in err
    assert (rows(data), contents(out)) == (before, kept)


def test_a_result_is_recorded_as_if_the_cycle_had_run_here(command, data, out, tmp_path):
    here = shutil.copytree(data, tmp_path / "here")
    code, told, err = command("adapters", "add", out, "--data", data)
    assert code == 0, err
    assert told.startswith("cycle 1   promoted: policy-000001")
    assert command("cycle", "--data", here)[0] == 0
    found = []
    for place in (data, here):
        with FeedbackStore(place / "feedback.db") as store:
            cycle, adapters = store.last_cycle(), store.adapters()
            receipts = [c for r in store.feedback_of("rater-0") for c in r["comparisons"]]
            facts = (cycle.state, cycle.adapter, cycle.reasons, cycle.config)
            measured = {
                name: value
                for name, value in cycle.metrics.items()
                if not name.startswith(("seconds", "memory"))
            }
            lineage = [(a.name, a.kind, a.parent, a.state, a.cycle_id) for a in adapters]
            uses = sorted((c["id"], json.dumps(c["uses"])) for c in receipts)
            serving = store.serving()
            now = (serving.adapter, serving.previous, serving.by, store.new_comparisons())
            trial = store.open_trial()
        files = {p.name for p in (place / "cycles" / "000001").iterdir() if p.is_file()}
        weights = load_file(place / "adapters" / "policy-000001" / "adapter_model.safetensors")
        digest = {name: tensor.sum().item() for name, tensor in weights.items()}
        found.append(
            (facts, measured, lineage, uses, now, trial.kind, trial.adapter, files, digest)
        )
    for one, other in zip(*found, strict=True):
        assert one == other


def test_the_adapters_are_signed_with_the_key_of_here(command, data, out):
    assert command("adapters", "add", out, "--data", data)[0] == 0
    assert command("adapters", "verify", "--data", data)[0] == 0
    assert not (out / "work").exists()
    assert "secrets" not in {path.name for path in out.rglob("*")}
    for adapter in (data / "adapters").glob("*-*"):
        assert f"\n# {adapter.name}\n" in (adapter / CARD).read_text("utf-8")


def test_the_same_result_added_twice_changes_nothing(command, data, out):
    command("adapters", "add", out, "--data", data)
    before = rows(data)
    code, told, _ = command("adapters", "add", out, "--data", data, "--json")
    assert (code, rows(data)) == (0, before)
    assert json.loads(told)["again"] and json.loads(told)["adapter"] == "policy-000001"


def change_weights(out: Path) -> None:
    file = out / "adapters" / "policy-000001" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, file)


def change_outcome(out: Path) -> None:
    outcome = json.loads((out / "outcome.json").read_text())
    outcome["cycle"]["metrics"]["win_rate"] = 0.99
    (out / "outcome.json").write_text(json.dumps(outcome))


def change_report(out: Path) -> None:
    (out / "report.json").write_text("{}")


def lose_a_file(out: Path) -> None:
    (out / "adapters" / "policy-000001" / "adapter_config.json").unlink()


def cut_outcome(out: Path) -> None:
    (out / "outcome.json").write_bytes((out / "outcome.json").read_bytes()[:100])


def link_elsewhere(out: Path) -> None:
    kept = (out / "report.json").rename(out.parent / "report.json")
    (out / "report.json").symlink_to(kept)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (change_weights, "does not match its checksum"),
        (change_outcome, "was changed after it was written"),
        (change_report, "does not match its checksum"),
        (lose_a_file, "is missing"),
        (cut_outcome, "cannot be read"),
        (link_elsewhere, "is missing"),
    ],
)
def test_a_result_that_was_altered_is_refused_in_one_line(command, data, out, damage, why):
    damage(out)
    refused(command, data, out, code=1, why=why)


def test_a_result_that_is_half_written_is_refused(command, data, out, tmp_path):
    (out / "outcome.json").unlink()
    refused(command, data, out, code=3, why="has not come to a verdict")
    refused(command, data, tmp_path, code=3, why="has not come to a verdict")


def test_a_result_of_another_installation_is_refused(command, made, out, tiny_model, tmp_path):
    refused(
        command,
        make_data(tmp_path / "other", tiny_model),
        out,
        code=3,
        why="did not write the evidence",
    )


def test_a_result_of_another_base_is_refused(command, data, out):
    with FeedbackStore(data / "feedback.db") as store:
        store.note_base(ServedBase("another", {}, fingerprint="0123"))
    refused(command, data, out, code=3, why="was trained on base")


def test_a_result_is_refused_while_a_cycle_runs_and_added_after_it(command, data, out):
    with FeedbackStore(data / "feedback.db") as store:
        number = store.start_cycle({}, pid=os.getpid()).id
        refused(command, data, out, code=3, why=f"cycle {number} is running")
        store.finish_cycle(number, state="refused", reasons=("nothing new",))
    assert command("adapters", "add", out, "--data", data)[0] == 0
    with FeedbackStore(data / "feedback.db") as store:
        assert store.last_cycle().id == number + 1


def test_a_result_is_refused_if_another_cycle_came_to_a_verdict_meanwhile(command, data, out):
    with FeedbackStore(data / "feedback.db") as store:
        number = store.start_cycle({}, pid=os.getpid()).id
        store.finish_cycle(number, state="rejected", reasons=("worse",))
    refused(command, data, out, code=3, why="has run here since the evidence was written")


def test_two_results_of_one_evidence_are_one_cycle(command, made, data, out, tmp_path):
    assert command("adapters", "add", out, "--data", data)[0] == 0
    second = tmp_path / "second"
    assert command("cycle", "--evidence", made / "evidence.tar", "--out", second)[0] == 0
    refused(command, data, second, code=3, why="another result of this evidence was added")


def test_a_candidate_that_was_compared_with_another_adapter_is_kept_and_not_served(
    command, data, out, tiny_adapters
):
    with FeedbackStore(data / "feedback.db") as store:
        publish_copy(tiny_adapters / "policy-000002", data, "policy-000009")
        store.register_adapter("policy-000009", kind="policy", state="published")
        store.serve("policy-000009", by="operator")
    code, _, err = command("adapters", "add", out, "--data", data)
    assert code == 3
    assert "adapter 'policy-000009' is served by now, not 'policy-000000'" in err
    again, told, err = command("adapters", "add", out, "--data", data)
    assert (again, told.split(",")[0], "was rejected" in err) == (3, "was added before", True)
    with FeedbackStore(data / "feedback.db") as store:
        assert store.serving().adapter == "policy-000009"
        assert store.last_cycle().state == "rejected"
        assert store.adapter("policy-000010").state == "rejected"
    assert command("promote", "policy-000010", "--force", "--data", data)[0] == 0


def test_who_is_forgotten_after_the_evidence_marks_the_adapters_and_nothing_is_served(
    command, data, out
):
    assert command("forget", "rater-1", "--yes", "--data", data)[0] == 0
    code, _, err = command("adapters", "add", out, "--data", data)
    assert code == 3
    assert "1 of those whose words were in the evidence were forgotten since" in err
    with FeedbackStore(data / "feedback.db") as store:
        assert store.serving().adapter == BASE_ADAPTER
        assert all(a.tainted_at for a in store.adapters() if a.cycle_id == 1)
    report = json.loads((data / "cycles" / "000001" / "report.json").read_text())
    assert report["samples"] == []


def test_who_is_forgotten_after_the_result_was_added_marks_the_adapters(command, data, out):
    command("adapters", "add", out, "--data", data)
    code, told, _ = command("forget", "rater-2", "--yes", "--data", data, "--json")
    assert code == 0
    assert set(json.loads(told)["adapters"]) == {"policy-000001", "reward-000001"}


def test_a_vote_that_was_withdrawn_meanwhile_is_counted_and_its_rater_still_marks(
    command, data, out
):
    with FeedbackStore(data / "feedback.db") as store:
        for receipt in store.feedback_of("rater-1"):
            store.withdraw_feedback("rater-1", receipt["event"], receipt["id"])
        store.refresh_comparisons()
    assert command("adapters", "add", out, "--data", data)[0] == 0
    with FeedbackStore(data / "feedback.db") as store:
        added = store.audit_log(action="cycle_added")[0].detail
    assert added["withdrawn"] == 16
    told = command("forget", "rater-1", "--yes", "--data", data, "--json")[1]
    assert set(json.loads(told)["adapters"]) == {"policy-000001", "reward-000001"}


def test_the_second_round_elsewhere_begins_from_what_the_first_made(command, data, out, tmp_path):
    assert command("adapters", "add", out, "--data", data)[0] == 0
    file, again = tmp_path / "second.tar", tmp_path / "again"
    assert command("evidence", file, "--data", data)[0] == 0
    assert file.stat().st_mode & 0o077 == 0
    with tarfile.open(file) as archive:
        found = {name.split("/")[1] for name in archive.getnames() if name.startswith("adapters/")}
    assert found == {"policy-000001", "reward-000001"}
    code, _, err = command("cycle", "--evidence", file, "--out", again)
    assert code == 3
    assert "nothing new" in err  # the votes are known as used
    assert {path.name for path in again.iterdir()} <= {".lock"}  # nobody's words stay
    with FeedbackStore(data / "feedback.db") as store:
        honest_votes(store, first=100)
    file = tmp_path / "third.tar"
    assert command("evidence", file, "--data", data)[0] == 0
    assert command("cycle", "--evidence", file, "--out", tmp_path / "third")[0] == 0
    assert command("adapters", "add", tmp_path / "third", "--data", data)[0] == 0
    with FeedbackStore(data / "feedback.db") as store:
        served = store.serving()
        assert (served.adapter, served.previous) == ("policy-000002", "policy-000001")
        assert store.adapter("policy-000002").parent == "policy-000001"
    verify_adapter(data / "adapters" / "policy-000002", kind="policy")


def test_a_cycle_that_was_killed_goes_on_and_one_that_is_done_is_told_again(made, tmp_path):
    words = ("cycle", "--evidence", made / "evidence.tar", "--out", tmp_path / "out")
    argv = [sys.executable, "-m", "chat_app", *map(str, words)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = tmp_path / "out" / "work" / "cycles" / "000001" / "metrics.jsonl"
    while not (metrics.exists() and '"policy"' in metrics.read_text()) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "outcome.json").exists()
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["metrics"]["resumed_cycle"] == 1
    told = run(*words, "--json")
    assert (told.returncode, json.loads(told.stdout)["id"]) == (0, facts["id"])
    assert not (tmp_path / "out" / "work").exists()


def test_what_is_no_evidence_or_no_empty_folder_is_told_in_one_line(command, made, tmp_path):
    whole, cut, other = made / "evidence.tar", tmp_path / "cut.tar", tmp_path / "other.txt"
    size = whole.stat().st_size
    cut.write_bytes(whole.read_bytes()[: size // 2])
    other.write_text("not evidence")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    cases = [
        (("--evidence", whole), 2, "go together"),
        (("--evidence", other, "--out", tmp_path / "a"), 2, "is not evidence"),
        (("--evidence", tmp_path / "none", "--out", tmp_path / "a"), 2, "cannot read"),
        (("--evidence", cut, "--out", tmp_path / "a"), 2, "is cut off"),
        (("--evidence", whole, "--out", full), 2, "is not empty"),
        (("--evidence", whole, "--out", other), 2, "is not a folder"),
        (("--evidence", whole, "--out", other / "in"), 2, "is not a folder"),
    ]
    options = ("--data", full), ("--profile", "cpu"), ("--quantization", "none")
    for option in (*options, ("--cancel",), ("--dry-run",)):
        words = ("--evidence", whole, "--out", tmp_path / "a", *option)
        cases.append((words, 2, f"{option[0]} has no use beside --evidence"))
    for words, code, why in cases:
        found, _, err = command("cycle", *words)
        assert (found, len(err.splitlines())) == (code, 1), err
        assert why in err
    assert (full / "mine.txt").read_text() == "keep"
    assert {path.name for path in tmp_path.iterdir()} == {"cut.tar", "other.txt", "full"}


def test_a_full_disk_is_told_in_one_line_and_nobodys_words_stay(made, tmp_path):
    def allow_little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = ("cycle", "--evidence", made / "evidence.tar", "--out", tmp_path / "out")
    done = run(*words, preexec_fn=allow_little)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert f"cannot write {tmp_path / 'out'} (File too large); make room" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {".lock"}


def test_threads_and_who_decodes_are_the_other_machines(data, tmp_path):
    config = (data / "config.toml").read_text()
    config = config.replace("policy = {", 'policy = {generation = "vllm", ')
    config = config.replace("[cycle]", '[engine]\nvllm_urls = ["http://127.0.0.1:9"]\n[cycle]', 1)
    (data / "config.toml").write_text(config.replace("[cycle]", "[cycle]\nthreads = 3", 1))
    file, out = tmp_path / "evidence.tar", tmp_path / "out"
    assert run("evidence", file, "--data", data).returncode == 0
    with tarfile.open(file) as archive:
        member = archive.extractfile("evidence.json")
        settings = json.load(member)["settings"]["cycle"]
    assert "threads" not in settings and "generation" not in settings["policy"]
    done = run("cycle", "--evidence", file, "--out", out, env={"FEEDBACK_CHAT_CYCLE__THREADS": "2"})
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "config.json").read_text())
    assert (found["threads"], found["policy"]["generation"]) == (2, "local")
    here = {
        "FEEDBACK_CHAT_CYCLE__POLICY__GENERATION": "vllm",
        "FEEDBACK_CHAT_ENGINE__VLLM_URLS": "http://127.0.0.1:7",
    }
    done = run("cycle", "--evidence", file, "--out", tmp_path / "vllm", env=here)
    assert done.returncode == 1, done.stderr
    assert "http://127.0.0.1:7 does not answer" in done.stderr.splitlines()[-1]


def test_a_further_process_uses_the_servers_of_its_machine(command, made, tmp_path, monkeypatch):
    helped = []
    monkeypatch.setattr("rlhf_core.cycle.help_cycle", lambda *given, **by: helped.append(by))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("FEEDBACK_CHAT_CYCLE__POLICY__GENERATION", "vllm")
    monkeypatch.setenv("FEEDBACK_CHAT_ENGINE__VLLM_URLS", "http://127.0.0.1:7")
    words = ("--evidence", made / "evidence.tar", "--out", tmp_path / "out")
    assert command("cycle", *words)[0] == 0
    assert helped[0]["servers"].urls == ("http://127.0.0.1:7",)


def test_forget_deletes_evidence_in_the_data_directory_and_names_it_elsewhere(
    command, data, tmp_path
):
    inside, outside = data / "mine.tar", tmp_path / "sent.tar"
    for file in (inside, outside):
        assert command("evidence", file, "--data", data)[0] == 0
    code, told, err = command("forget", "rater-1", "--yes", "--data", data, "--json")
    assert (code, inside.exists(), outside.exists()) == (0, False, True), err
    named = {copy["path"] for copy in json.loads(told)["copies"]}
    assert str(outside) in named and str(inside) not in named


# Dies, without a word, once the whole store was copied.
KILLED = """
import os, signal, sys
from pathlib import Path
from chat_app.cycles.elsewhere.sending import write_evidence
from chat_app.settings import Settings
from feedback_store import FeedbackStore
from feedback_store.datasets import evidence_copy
evidence_copy._erase_what_is_hidden = lambda db: os.kill(os.getpid(), signal.SIGKILL)
with FeedbackStore(Path(sys.argv[1]) / "feedback.db") as store:
    write_evidence(store, Settings(data=Path(sys.argv[1])), Path(sys.argv[2]))
"""


def copies_of(word: str, folder: Path) -> set[str]:
    """The files that have a word, by the folder that they are in."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.parent.name for path in files if word.encode() in path.read_bytes()}


@pytest.mark.parametrize("then", ["evidence", "forget", "sweep"])
def test_what_a_killed_command_leaves_is_in_the_data_directory_and_goes_with_the_next(
    command, data, tmp_path, then
):
    with FeedbackStore(data / "feedback.db") as store:
        silent = store.add_rater("silent").id
        store.add_message(store.add_conversation(silent).id, "user", "parrot")
    shared = tmp_path / "shared"
    killed = subprocess.run([sys.executable, "-c", KILLED, data, shared / "e.tar"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert copies_of("parrot", shared) == set()
    assert len(copies_of("parrot", data)) == 2
    words = {
        "evidence": ("evidence", shared / "e.tar"),
        "forget": ("forget", "rater-1", "--yes"),
        "sweep": ("sweep", "--older-than", "100"),
    }[then]
    code, _, err = command(*words, "--data", data)
    assert (code, copies_of("parrot", data)) == (0, {"data"}), err
    assert not list(data.glob(".evidence-*"))


def test_two_commands_do_not_delete_each_others_folder(command, data, out, tmp_path):
    with staging_folder(data, "evidence") as folder:
        refused(command, data, out, code=3, why="wait for it")
        code, _, err = command("evidence", tmp_path / "new.tar", "--data", data)
        assert (code, "wait for it" in err, folder.is_dir()) == (3, True, True)
    assert command("adapters", "add", out, "--data", data)[0] == 0
    assert not list(data.glob(".adding-*"))


def test_evidence_needs_room_for_twice_the_store_in_the_data_directory(
    command, data, tmp_path, monkeypatch
):
    size = (data / "feedback.db").stat().st_size
    room = shutil.disk_usage(data)._replace(free=2 * size - 1)
    monkeypatch.setattr(shutil, "disk_usage", {data: room}.__getitem__)
    code, _, err = command("evidence", tmp_path / "new.tar", "--data", data)
    assert (code, (tmp_path / "new.tar").exists()) == (3, False), err
    assert f"evidence needs {2 * size:,}" in err


def test_what_was_checked_is_what_is_added(command, data, out, monkeypatch):
    weights = out / "adapters" / "policy-000001" / "adapter_model.safetensors"
    whole = weights.read_bytes()

    def check(folder: Path, files: Files) -> None:
        require_files(folder, files)
        change_weights(out)  # somebody does, once they were checked

    monkeypatch.setattr("chat_app.cycles.elsewhere.adding.require_files", check)
    code, _, err = command("adapters", "add", out, "--data", data)
    assert code == 0, err
    assert (data / "adapters" / "policy-000001" / weights.name).read_bytes() == whole
    assert weights.read_bytes() != whole


def test_evidence_is_not_written_over_a_file_or_beside_a_running_cycle(command, data, tmp_path):
    (tmp_path / "there.tar").write_text("mine")
    code, _, err = command("evidence", tmp_path / "there.tar", "--data", data)
    assert (code, (tmp_path / "there.tar").read_text()) == (3, "mine"), err
    with FeedbackStore(data / "feedback.db") as store:
        store.start_cycle({}, pid=os.getpid())
        code, _, err = command("evidence", tmp_path / "new.tar", "--data", data)
    assert (code, (tmp_path / "new.tar").exists()) == (3, False), err
    assert "is running" in err
