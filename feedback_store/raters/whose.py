"""Whose votes the model learns from: each as a small fact, so that somebody can count them.

A fact names its rater and says what kind of rater that is, how much the vote counts, and in which
script its question is written. Which language that is, the store does not know. What counts for
nothing is not among them, nor are votes of held-out raters, since these only measure, nor what is
about a conversation whose owner does not consent. Nothing here decides who may see what.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from feedback_store.feedback.events import HEARD, owners_agree
from feedback_store.raters.standing import rater_weights
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import Row, stream

MOST = 10_000  # of each table, the newest: reading both takes half a second
IMPORTED = "imported"  # beside `RATER_KINDS`: raters of other people's data sets
LOOKED_AT = 200  # characters of a question
NO_SCRIPT = "Zyyy"  # ISO 15924: no letters, or of a script that has no name here
# By the first word of a letter's Unicode name, ISO 15924's code of the script.
_SCRIPTS = {
    "LATIN": "Latn",
    "CYRILLIC": "Cyrl",
    "GREEK": "Grek",
    "ARABIC": "Arab",
    "HEBREW": "Hebr",
    "DEVANAGARI": "Deva",
    "BENGALI": "Beng",
    "TAMIL": "Taml",
    "THAI": "Thai",
    "HANGUL": "Kore",
    "HIRAGANA": "Jpan",
    "KATAKANA": "Jpan",
    "CJK": "Hani",
}
_SAYS = f"""SELECT said.*, substr(asked.content, 1, {LOOKED_AT}) AS text,
        one.text_hash AS a, other.text_hash AS b FROM ({{said}}) AS said
    LEFT JOIN messages AS asked ON asked.id = said.prompt_id
    LEFT JOIN messages AS one ON one.id = said.one
    LEFT JOIN messages AS other ON other.id = said.other"""
# What does not count takes no place among the newest, and whether it counts is asked of no more
# rows than those: the index by number begins with the split.
_NEWEST = f"""SELECT * FROM (SELECT {{columns}} FROM {{table}} INDEXED BY {{table}}_by_number
    CROSS JOIN raters ON raters.id = rater_id
    WHERE split = '{{split}}' AND {{standing}} AND {HEARD} AND {{agreed}}
    ORDER BY number DESC LIMIT :most)"""
# A cycle's votes are those that it used, whatever counts by now.
_USED = """SELECT {columns} FROM json_each(:ids) AS used
    CROSS JOIN {table} ON {table}.id = used.value CROSS JOIN raters ON raters.id = rater_id
    WHERE split <> 'held_out_raters'"""
_WHO = """number, {table}.id, rater_id, prompt_hash, prompt_id, source, weight,
    raters.kind, raters.consent, {texts}"""


def _sql(table: str, texts: str, standing: str, judged: str) -> tuple[str, str]:
    """SQL of a table's votes: the newest that count, and those with some ids."""
    of_table = {"table": table, "columns": _WHO.format(table=table, texts=texts)}
    of_table |= {"standing": standing, "agreed": owners_agree(judged)}
    newest = " UNION ALL ".join(_NEWEST.format(split=s, **of_table) for s in ("train", "held_out"))
    used = _USED.format(**of_table)
    return _SAYS.format(said=f"{newest} ORDER BY number DESC LIMIT :most"), _SAYS.format(said=used)


_COMPARED = _sql(
    "comparisons",
    "label, iif(source IN ('choice', 'ranking', 'thumbs'), a, NULL) AS one, b AS other",
    "withdrawn_at IS NULL",
    "comparisons.a, comparisons.b, comparisons.prompt_id",
)
_ALONE = _sql(
    "unpaired",
    "'' AS label, NULL AS one, NULL AS other",
    "TRUE",
    "unpaired.message_id, unpaired.prompt_id",
)


@dataclass(frozen=True, slots=True)
class VoteFact:
    """One vote that counts.

    Attributes:
        rater: Who said it.
        group: One of `RATER_KINDS`, or `IMPORTED`.
        source: What kind of vote it is, as `StoredComparison.source` and `StoredUnpaired.source`.
        weight: How much it counts, the rater's own weight included.
        question: The same for all votes on one prompt.
        text: The beginning of the question; only operators may see it.
        script: The code of ISO 15924 of the script of most of its letters.
        subject: The same for all votes on the same two texts; None where there are not two, or the
            rater wrote one of them.
        verdict: 1 for the one text, -1 for the other, 0 for a tie.
        opinion: The same for all pairs of one opinion, such as a ranking.
    """

    rater: str
    group: str
    source: str
    weight: float
    question: str
    text: str
    script: str
    subject: str | None
    verdict: int
    opinion: str


class Whose:
    """The facts of a store's votes."""

    _file: SQLiteFile

    def vote_facts(
        self,
        *,
        comparisons: Mapping[str, float] | None = None,
        unpaired: Mapping[str, float] | None = None,
    ) -> list[VoteFact]:
        """What counts now, the newest `MOST` of each kind; or what a cycle has used.

        Both are as of the last refresh.

        Args:
            comparisons: Only those with these ids, and with these weights.
            unpaired: The same of judgements of one reply.
        """
        with self._file.long_read() as db:
            factors = rater_weights(db)
            return [
                _fact(row, row["weight"] * factors.get(row["rater_id"], 1.0))
                if weights is None
                else _fact(row, weights[row["id"]])
                for (newest, used), weights in ((_COMPARED, comparisons), (_ALONE, unpaired))
                for row in (
                    stream(db, newest, {"most": MOST})
                    if weights is None
                    else stream(db, used, {"ids": json.dumps([*weights])})
                )
            ]


def script_of(text: str) -> str:
    """The code of ISO 15924 of the script of most letters: `Jpan` as soon as there are kana."""
    found = Counter(script for script in map(_script_of_letter, text) if script)
    if not found:
        return NO_SCRIPT
    return "Jpan" if "Jpan" in found else found.most_common(1)[0][0]


@cache
def _script_of_letter(letter: str) -> str | None:
    first = unicodedata.name(letter, "").partition(" ")[0]
    return _SCRIPTS.get(first.partition("-")[0]) if letter.isalpha() else None


def _fact(row: Row, weight: float) -> VoteFact:
    imported = (row["consent"] or "").startswith("dataset:")
    a, b, text = row["a"], row["b"], row["text"] or ""
    texts = sorted((a, b)) if a and b and a != b else None
    # the verdict is on the texts in their own order, whichever stood on the left
    decided = 0 if row["label"] == "tie" else 1 if row["label"] == "a" else -1
    return VoteFact(
        rater=row["rater_id"],
        group=IMPORTED if imported else row["kind"],
        source=row["source"],
        weight=weight,
        question=row["prompt_hash"],
        text=text,
        script=script_of(text),
        subject=None if texts is None else "\n".join((row["prompt_hash"], *texts)),
        verdict=0 if texts is None else decided if texts[0] == a else -decided,
        opinion=f"{'alone ' if row['label'] == '' else ''}{row['number']}",
    )
