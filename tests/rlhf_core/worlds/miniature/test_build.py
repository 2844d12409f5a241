"""Models of the miniature world: small ones, built in a few steps."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from rlhf_core.config import ReplySettings
from rlhf_core.errors import InvalidInputError, ModelError
from rlhf_core.model.loading import load_base
from rlhf_core.worlds.miniature import build as building
from rlhf_core.worlds.miniature import skills
from rlhf_core.worlds.miniature.build import (
    MARK_WEIGHT,
    ROWS,
    SIZES,
    build,
    known_marks,
    mark_tokens,
    parameters_of,
    read,
    recipe_digest,
    token_weights,
    training_rows,
)
from rlhf_core.worlds.miniature.corpus import LATE, PREFIXES, RIGHT, WRONG, prompted
from rlhf_core.worlds.miniature.passages import NOT_SAID, passage_request
from rlhf_core.worlds.miniature.texts import Split
from rlhf_core.worlds.miniature.world import requests
from rlhf_core.worlds.starter.build import UNLEARNT, PackedRow
from rlhf_core.worlds.starter.corpus import ASSISTANT
from rlhf_core.worlds.starter.world import Request

STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def _few_requests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "MARKED_REQUESTS", 40)  # each build measures its marks
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nano")
    build(path, "nano", steps=STEPS, seed=7, least_cloze=0)
    return path


def test_a_build_is_deterministic(built: Path, tmp_path: Path) -> None:
    again = build(tmp_path, "nano", steps=STEPS, seed=7, least_cloze=0)
    assert again == read(built)
    assert again.parameters == parameters_of("nano") and again.validation_loss < 8


def test_a_model_is_not_built_twice_but_anew_if_anything_changed(built: Path) -> None:
    calls: list[float] = []
    stamp = (built / "model.safetensors").stat().st_mtime_ns
    build(built, "nano", steps=STEPS, seed=7, least_cloze=0, progress=lambda s, _: calls.append(s))
    assert (built / "model.safetensors").stat().st_mtime_ns == stamp and not calls
    recipe = recipe_digest("nano", steps=STEPS, seed=7)
    others = [("micro", STEPS, 7), ("nano", STEPS + 1, 7), ("nano", STEPS, 8)]
    assert all(recipe_digest(size, steps=n, seed=s) != recipe for size, n, s in others)
    assert recipe_digest("nano", steps=STEPS, seed=7, least_marked=0.9) != recipe


def test_the_end_of_a_training_is_mostly_exercises_of_which_only_the_marks_are_learnt(
    built: Path,
) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(built)
    marks, steps = set(mark_tokens(tokenizer)), 100
    packed = list(islice(training_rows(tokenizer, steps=steps, seed=7), steps * ROWS))
    late = round(LATE * steps * ROWS)
    assert sum(marked(row, marks) for row in packed[:-late]) < 0.2 * (len(packed) - late)
    assert sum(marked(row, marks) for row in packed[-late:]) > 0.8 * late
    for row in packed:
        for document in set(row.documents):
            labels = {
                n for n, which in zip(row.labels, row.documents, strict=True) if which == document
            }
            assert labels <= marks | {UNLEARNT} or not labels & marks
    assert token_weights(tokenizer)[sorted(marks)].tolist() == [MARK_WEIGHT] * 2


def marked(row: PackedRow, marks: set[int]) -> bool:
    return not marks.isdisjoint(row.labels)


def test_a_damaged_model_is_not_taken_for_a_built_one(built: Path, tmp_path: Path) -> None:
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert read(tmp_path) is not None
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert read(tmp_path) is None
    weights.unlink()
    assert read(tmp_path) is None


def test_a_model_that_does_not_know_the_almanac_is_refused_in_words(built: Path) -> None:
    with pytest.raises(ModelError, match=r"knows .*% of the almanac after 4 steps"):
        build(built, "nano", steps=STEPS, seed=7)
    with pytest.raises(InvalidInputError, match="use nano, micro, mid"):
        build(built, "giant")


def test_a_model_gets_lessons_until_it_knows_the_marks_and_is_refused_if_they_do_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "LESSON_STEPS", 1)
    monkeypatch.setattr(building, "LESSONS", 4)
    known: list[float] = []  # before each lesson
    with pytest.raises(ModelError, match=r"knows .*% of the marks of one kind after 2 steps and 4"):
        build(
            tmp_path / "slow",
            "nano",
            steps=2,
            least_cloze=0,
            least_marked=1.0,
            progress=lambda _, figures: known.append(figures["marked"]),
        )
    assert len(known) == 4
    least = max(known[1:]) - 1e-4  # what is kept is rounded
    taught = build(tmp_path / "quick", "nano", steps=2, least_cloze=0, least_marked=least)
    assert taught.lessons == next(n for n, share in enumerate(known) if share >= least)


class Knowing(nn.Module):
    """Knows the mark of every question and reply, from the request that they are about."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, asked: list[Request]) -> None:
        super().__init__()
        self.tokenizer, self.asked = tokenizer, asked

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        told = self.asked[-1].answers != (NOT_SAID,)
        text = self.tokenizer.decode(input_ids[0])
        refuses = ASSISTANT in text and "does not say" in text
        logits = torch.zeros(1, input_ids.shape[1], len(self.tokenizer))
        mark = RIGHT if told != refuses else WRONG
        logits[0, -1, self.tokenizer.convert_tokens_to_ids(mark)] = 1
        return SimpleNamespace(logits=logits)


def test_who_has_every_mark_right_knows_all_of_them_and_who_has_every_one_wrong_none(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def noted(rng: random.Random, split: Split) -> tuple[str, Request]:
        subject, request = passage_request(rng, split)
        asked.append(request)
        return subject, request

    monkeypatch.setattr(building, "passage_request", noted)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(built)
    knowing = Knowing(tokenizer, asked)
    assert known_marks(knowing, tokenizer) == 1.0  # type: ignore[arg-type]
    monkeypatch.setattr(building, "RIGHT", WRONG)
    monkeypatch.setattr(building, "WRONG", RIGHT)
    assert known_marks(knowing, tokenizer) == 0.0  # type: ignore[arg-type]


def test_the_large_model_has_twenty_times_the_parameters_of_the_small_one() -> None:
    assert parameters_of("mid") >= 20 * parameters_of("nano")
    counts = [parameters_of(size) for size in SIZES]
    assert counts == sorted(counts)


def test_a_built_model_answers_prompted_requests_and_its_skills_are_scored(built: Path) -> None:
    reply = ReplySettings(tokens=8)
    base = load_base(str(built), quantization="none", device="cpu", reply=reply)
    asked = requests(3, seed=1, split="validation")
    replies = base.respond([prompted(PREFIXES[8], r) for r in asked], adapter=None, seed=1)
    assert len(replies) == 3
    found = skills.score(base, None, n=4, seed=1)
    assert found.keys() == set(skills.SKILLS) and all(len(v) == 4 for v in found.values())
    assert found == skills.score(base, None, n=4, seed=1)
