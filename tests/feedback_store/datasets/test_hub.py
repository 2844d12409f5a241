"""A folder as the Hub lays it out, read back by the library that reads the Hub."""

from pathlib import Path

import datasets
import pytest

from feedback_store import ConflictError, FeedbackStore, InvalidFeedbackError
from feedback_store.datasets.hub import Card, export_folder
from feedback_store.datasets.trl_rows import ExportOptions

FORMS = ("preference", "unpaired", "sft", "prompts")


@pytest.fixture
def asked(store, ann):
    """A store whose questions are of two splits, with something for every format."""
    for number in range(30):
        ann.choose(ann.shown(f"What is {number}?", "A number.", "Rude."), "a")
        reply = ann.reply(ann.ask(f"And {number}?"), "So.")
        ann.thumb(reply, 1)
        store.add_demonstration("ann", "Well.", message_id=reply.id, idempotency_key=f"d{number}")
    store.refresh_comparisons()
    return store


def loaded(folder, tmp_path, **options):
    return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"), **options)


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_is_what_the_library_reads(asked, tmp_path, form):
    folder = tmp_path / "set"
    report = export_folder(asked, folder, form, ExportOptions(split="all", with_metadata=True))
    found = loaded(folder, tmp_path)
    assert {split: len(rows) for split, rows in found.items()} == report.rows
    assert set(report.rows) == {"train", "held_out"}
    expected = list(asked.export_rows(form, ExportOptions(split="train", with_metadata=True)))
    assert found["train"].to_list() == expected
    assert set(found["held_out"]["split"]) == {"held_out"}


def test_the_card_says_what_the_owner_says_and_quotes_nobody(asked, tmp_path):
    card = Card("cc-by-4.0", ("en", "no"))
    export_folder(asked, tmp_path / "set", "preference", card=card)
    text = (tmp_path / "set" / "README.md").read_text()
    read = datasets.load_dataset_builder(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert read.config.name == "preference"
    from huggingface_hub import DatasetCard

    data = DatasetCard(text).data.to_dict()
    assert (data["license"], data["language"]) == ("cc-by-4.0", ["en", "no"])
    assert data["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    assert "What is" not in text and "ann" not in text.split()


def test_a_folder_with_something_in_it_is_left_alone(asked, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for replace_old in (False, True):
        with pytest.raises(ConflictError):
            export_folder(asked, folder, "preference", replace_old=replace_old)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_an_export_again_replaces_all_of_the_earlier_one(asked, tmp_path):
    folder = tmp_path / "set"
    export_folder(asked, folder, "preference", ExportOptions(split="all"))
    with pytest.raises(ConflictError, match="not empty"):
        export_folder(asked, folder, "preference")
    export_folder(asked, folder, "preference", replace_old=True)
    assert [path.name for path in (folder / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    assert list(loaded(folder, tmp_path)) == ["train"]


def test_nothing_is_written_where_there_is_nothing(path, tmp_path):
    with FeedbackStore(path) as store:
        for split in ("all", "train"):
            with pytest.raises(ConflictError, match="0 rows"):
                export_folder(store, tmp_path / "set", "preference", ExportOptions(split=split))
        with pytest.raises(InvalidFeedbackError, match="no data set"):
            export_folder(store, tmp_path / "set", "events")
    assert not list(Path(tmp_path).glob("set/**/*.*"))


def test_whose_words_are_in_a_folder_is_known(asked, tmp_path):
    export_folder(asked, tmp_path / "set", "preference")
    (file,) = asked.known_exports()
    assert file == str((tmp_path / "set" / "data" / "train-00000-of-00001.parquet").resolve())
