"""A data set as the Hub of Hugging Face lays it out: a folder with a card and Parquet files.

`README.md` says by YAML which file is which split, so `datasets.load_dataset(FOLDER)` and the Hub
itself read it. Invariants: each file of rows is an export like any other, so erasure finds it; the
card is written last and quotes nobody; a folder that has something else in it is left alone.

Source:
    The Hub's documentation, "Dataset Cards" and "Manual Configuration".
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from feedback_store.datasets.exports import Exports
from feedback_store.datasets.trl_rows import ALL, TRAIN, ExportOptions, checked, columns
from feedback_store.errors import ConflictError, InvalidFeedbackError, StoreUnavailableError
from feedback_store.records import SPLITS
from feedback_store.whole_files import new_file

CARD = "README.md"
_ROWS = "data/{0}-00000-of-00001.parquet"
_ABOUT = {
    "preference": "Comparisons: the chosen and the rejected reply to one prompt.",
    "unpaired": "Judgements of one reply: `label` is true if it was found good.",
    "sft": "Conversations whose last message a person wrote or rewrote.",
    "prompts": "What people asked, each question once.",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(frozen=True, slots=True)
class Card:
    """What the owner says about a data set; None is left out of its card.

    `licence` is one of the Hub's names, such as "cc-by-4.0"; `languages` are ISO 639-1 codes.
    """

    licence: str | None = None
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What was written: the rows of each split, and how many were left out for which reason."""

    path: Path
    form: str
    rows: Mapping[str, int]
    left_out: Mapping[str, int]


def export_folder(
    store: Exports,
    folder: Path | str,
    form: str,
    options: ExportOptions | None = None,
    *,
    card: Card = Card(),
    replace_old: bool = False,
) -> FolderReport:
    """Write a data set and its card; splits without rows are left out.

    Args:
        store: Where the rows are.
        folder: A new or empty folder, or with `replace_old` one that this function has written.
        form: A data set of `trl_rows.FORMS`; events are none.
        options: What to take, as for `export_file`.
        card: What the owner says about it.
        replace_old: Replace what an earlier export has written there.

    Raises:
        ConflictError: Something is there, or no split has rows; nothing was written.
        InvalidFeedbackError: These are events, or an option does not fit.
        StoreUnavailableError: A file cannot be written.
    """
    target = Path(folder).resolve()
    options = checked(form, options or ExportOptions())
    if form == "events":
        raise InvalidFeedbackError("events are no data set for the Hub; name another format.")
    splits = SPLITS if options.split == ALL else (options.split or TRAIN,)
    _check_folder(target, replace_old=replace_old)
    left_out: Counter[str] = Counter()
    found: dict[str, int] = {}
    for split in splits:
        part = replace(options, split=split)
        if len(splits) > 1 and next(store.export_rows(form, part), None) is None:
            continue
        report = store.export_file(target / _ROWS.format(split), form, part, replace=replace_old)
        found[split], left_out = report.rows, left_out + Counter(report.left_out)
    if not found:
        raise ConflictError(f"0 rows of {form} fit in any split; ask for fewer filters.")
    _remove_old(target, keep=found)
    _write_card(target / CARD, _card(form, found, columns(form, options), card))
    return FolderReport(target, form, found, dict(left_out))


def _check_folder(target: Path, *, replace_old: bool) -> None:
    there = sorted(target.iterdir()) if target.is_dir() else []
    if target.exists() and not target.is_dir():
        raise InvalidFeedbackError(f"{target} is no folder; give the name of one.")
    if there and not replace_old:
        raise ConflictError(
            f"{target} is not empty; choose another name, or replace what is there."
        )
    if there and {path.name for path in there} != {CARD, "data"}:
        raise ConflictError(f"{target} has more in it than a data set; choose another folder.")


def _remove_old(target: Path, *, keep: Mapping[str, int]) -> None:
    """Delete what an earlier export has written and this one has not: no card names it."""
    for split in SPLITS:
        if split not in keep:
            with suppress(FileNotFoundError):
                (target / _ROWS.format(split)).unlink()


def _write_card(path: Path, text: str) -> None:
    try:
        with new_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise StoreUnavailableError(f"cannot write {path} ({exc.strerror}); mend that.") from exc


def _card(form: str, rows: Mapping[str, int], names: Sequence[str], card: Card) -> str:
    total = sum(rows.values())
    size = next((name for limit, name in _SIZES if total < limit), "1M<n<10M")
    header = ["---"]
    if card.licence:
        header.append(f"license: {json.dumps(card.licence)}")
    if card.languages:
        header += ["language:", *(f"- {json.dumps(code)}" for code in card.languages)]
    header += ["task_categories:", "- text-generation", "tags:", "- human-feedback", "- trl"]
    header += ["size_categories:", f"- {size}", "configs:", f"- config_name: {form}"]
    header += ["  default: true", "  data_files:"]
    for split in rows:
        header += [f"  - split: {split}", f"    path: data/{split}-*"]
    counts = [f"| `{split}` | {count:,} |" for split, count in rows.items()]
    body = [
        f"# Feedback from a chat: {form}",
        f"{_ABOUT[form]} The columns are {', '.join(f'`{name}`' for name in names)}, "
        "in the format of TRL.",
        "\n".join(["| split | rows |", "|---|---|", *counts]),
        "`held_out` has the questions that are kept for measuring, `held_out_raters` the people; "
        "do not train on either. Only people who agreed to it are in here. Read the rows before "
        "you publish them: people may have written about themselves.",
        f'```python\ndata = datasets.load_dataset("PATH_OR_NAME", split="{next(iter(rows))}")\n```',
    ]
    return "\n".join([*header, "---", ""]) + "\n" + "\n\n".join(body) + "\n"
