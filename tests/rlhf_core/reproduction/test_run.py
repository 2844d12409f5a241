"""Runs that need no stage: what they note, who may run, and what they say of the claims' file."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from rlhf_core.errors import InvalidInputError
from rlhf_core.reproduction import run
from rlhf_core.reproduction.claims import claims_hash, claims_text
from rlhf_core.reproduction.profiles import CI
from rlhf_core.worlds.miniature.build import parameters_of


def reproduced(root: Path) -> run.Reproduction:
    return run.reproduce(CI, root, claims=[], report=lambda *_: None)


def test_the_same_claims_are_the_same_however_young_their_file_is(tmp_path: Path) -> None:
    first = reproduced(tmp_path)
    assert not first.bars_changed and first.claims_sha256 == claims_hash(claims_text())
    begun = tmp_path / "ci" / run.STARTED
    noted = json.loads(begun.read_text()) | {"started": "2000-01-01T00:00:00+00:00"}
    begun.write_text(json.dumps(noted))
    again = reproduced(tmp_path)
    assert again.started == noted["started"] and not again.bars_changed


def test_claims_that_were_others_when_the_run_began_are_said(tmp_path: Path) -> None:
    reproduced(tmp_path)
    begun = tmp_path / "ci" / run.STARTED
    begun.write_text(begun.read_text().replace(claims_hash(claims_text()), "0" * 64))
    assert reproduced(tmp_path).bars_changed


def test_claims_that_change_during_the_run_are_said_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = claims_text(), claims_text().replace("at_least = 0.85", "at_least = 0.10")
    texts = iter([before, after])
    monkeypatch.setattr(run, "claims_text", lambda: next(texts))
    found = reproduced(tmp_path)
    assert found.bars_changed and found.claims_sha256 == claims_hash(before)
    assert found.results[0].claim.bars[0].at_least == 0.85


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "ci").mkdir()
    with (
        FileLock(tmp_path / "ci" / run.LOCK),
        pytest.raises(InvalidInputError, match=r"another run is at work in .*; wait for its end"),
    ):
        reproduced(tmp_path)
    assert reproduced(tmp_path).results


def test_a_run_without_stages_knows_its_size(tmp_path: Path) -> None:
    assert reproduced(tmp_path).parameters == {"base": parameters_of(CI.policy)}
