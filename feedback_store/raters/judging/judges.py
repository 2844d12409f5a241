"""Model judges: language models that vote on replies which are stored here.

A judge is a rater of the kind `judge`: one model at one endpoint with one text of principles. It
is asked about each pair twice, in both orders. Invariants: an answer that was stored is not asked
for again; the vote is stored with the second answer, in one transaction; an answer that is no
verdict becomes no vote; nobody is asked about a gold question, about what was deleted or left out,
or about what its owner does not consent to. Sets of more than two replies are not asked about.
This module asks nobody: `chat_app` does.

Source:
    Zheng et al. 2023, arXiv:2306.05685, section 3.4: a reply wins only if it is preferred in both
    orders, and otherwise it is a tie. Lee et al. 2023 (arXiv:2309.00267, section 2.1) average two
    probabilities in place of that, which takes logprobs that few endpoints give.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from sqlite_utils import Database

from feedback_store.comparisons.refresh import refresh
from feedback_store.errors import InvalidFeedbackError, UnknownRecordError
from feedback_store.feedback.events import (
    CONSENTED,
    LEFT_OUT_CONVERSATIONS,
    record_event,
)
from feedback_store.feedback.messages import path_to, prompt_of
from feedback_store.raters.accounts import Accounts
from feedback_store.raters.judging.report import JudgeReport, judge_report
from feedback_store.records import Prompt
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.rows import Row, first, insert, one_of, require, rows

WHICH = ("all", "judged", "unjudged")
LABELS = ("a", "b")
PICKS = ("a", "b", "tie", None)
_CHARS = 40  # of a model's name in the id of its judge

# The table `raters` is the owner of the conversation: whose words would be sent.
_SHOWN = f"""FROM candidates
    JOIN messages AS a ON a.candidates_id = candidates.id AND a.label = 'a'
    JOIN messages AS b ON b.candidates_id = candidates.id AND b.label = 'b'
    JOIN conversations ON conversations.id = a.conversation_id
    JOIN raters ON raters.id = conversations.rater_id
    WHERE gold IS NULL AND a.text_hash <> b.text_hash
    AND deleted_at IS NULL AND {CONSENTED} AND raters.quarantined_at IS NULL
    AND conversations.id NOT IN {LEFT_OUT_CONVERSATIONS}"""
_MORE = "EXISTS (SELECT 1 FROM messages WHERE candidates_id = candidates.id AND label = 'c')"
_MAY_ASK = f"{_SHOWN} AND NOT {_MORE}"
# By a choice, a ranking or thumbs, of these replies or elsewhere of the same two texts.
_JUDGED = """EXISTS (SELECT 1 FROM messages AS asked
    JOIN comparisons AS said ON said.prompt_hash = asked.path_hash
    JOIN raters AS voter ON voter.id = said.rater_id
    JOIN messages AS one ON one.id = said.a JOIN messages AS other ON other.id = said.b
    WHERE asked.id = candidates.prompt_message_id AND withdrawn_at IS NULL
    AND said.source IN ('choice', 'ranking', 'thumbs') AND voter.kind <> 'judge'
    AND (one.text_hash, other.text_hash)
        IN (VALUES (a.text_hash, b.text_hash), (b.text_hash, a.text_hash)))"""
_WHICH = f"(:which = 'all' OR (:which = 'judged') = {_JUDGED})"
# By lot, so that those that got no answer keep nobody from the others.
_PAIRS = f"""SELECT candidates.id, prompt_message_id, a.content AS a, b.content AS b, (
        SELECT json_group_array(first) FROM judge_answers
        WHERE candidates_id = candidates.id AND rater_id = :judge) AS answered
    {_MAY_ASK} AND {_WHICH} AND (SELECT count(*) FROM judge_answers
        WHERE candidates_id = candidates.id AND rater_id = :judge) < 2
    ORDER BY random() LIMIT :limit"""
_SETS = f"""SELECT count(*) FILTER (WHERE NOT {_MORE}) AS two,
        count(*) FILTER (WHERE {_MORE}) AS more
    {_SHOWN} AND {_WHICH}"""
_KEEP = "INSERT OR IGNORE INTO judge_answers VALUES (?, ?, ?, ?, ?)"
_KEEP_PROBE = "INSERT OR IGNORE INTO judge_probes VALUES (?, ?, ?, ?, ?)"
_ANSWERS = """SELECT first, picked FROM judge_answers
    WHERE rater_id = :judge AND candidates_id = :candidates"""


@dataclass(frozen=True, slots=True)
class Judge:
    """A model judge: which model, where it is asked, and by which principles."""

    rater_id: str
    model: str
    endpoint: str
    principles: str
    created_at: str


@dataclass(frozen=True, slots=True)
class JudgePair:
    """Two replies to one prompt, and the labels that were not shown first yet."""

    candidates_id: str
    prompt: Prompt
    replies: Mapping[str, str]  # by label
    unasked: tuple[str, ...]


class Judges(Accounts):
    """The model judges of a store."""

    def add_judge(self, model: str, endpoint: str, principles: str) -> Judge:
        """Store a judge, if it is not; as `new_judge`."""
        new = new_judge(model, endpoint, principles)
        self.add_rater(new.rater_id, kind="judge")

        def work(db: Database) -> Row:
            known = first(db, "SELECT * FROM judges WHERE rater_id = ?", [new.rater_id])
            if known is None:
                insert(db, "judges", asdict(new))
            return known or asdict(new)

        return Judge(**self._file.run(work))

    def judges(self) -> list[Judge]:
        """All judges, the first one first."""
        with self._file.read() as db:
            return [Judge(**r) for r in rows(db, "SELECT * FROM judges ORDER BY created_at")]

    def pairs_for_judge(
        self, judge: str, *, which: str = "all", limit: int = -1
    ) -> Iterator[JudgePair]:
        """Pairs that a judge has not answered in both orders yet, in an order drawn by lot.

        Args:
            judge: Its rater id; it need not be stored.
            which: "judged" are those of which some other rater said which is better, by a choice,
                a ranking or thumbs; "unjudged" are the others.
            limit: How many at most; -1 for all.
        """
        one_of(which, WHICH, "which pairs a judge is asked about")
        refresh(self._file)
        with self._file.read() as db:
            found = rows(db, _PAIRS, {"judge": judge, "which": which, "limit": limit})
        for row in found:
            with self._file.read() as db:
                if not _may_ask(db, row["id"]):
                    continue  # it was deleted or left out since
                prompt = prompt_of(path_to(db, row["prompt_message_id"]))
            asked = json.loads(row["answered"])
            unasked = tuple(label for label in LABELS if label not in asked)
            yield JudgePair(row["id"], prompt, {"a": row["a"], "b": row["b"]}, unasked)

    def sets_for_judges(self, which: str = "all") -> tuple[int, int]:
        """How many pairs judges may be asked about, and how many sets of more replies they skip.

        ``which`` is as in `pairs_for_judge`.
        """
        one_of(which, WHICH, "which pairs a judge is asked about")
        refresh(self._file)
        with self._file.long_read() as db:
            (found,) = rows(db, _SETS, {"which": which})
        return found["two"], found["more"]

    def add_judge_answer(
        self, judge: str, candidates_id: str, *, first_shown: str, picked: str | None
    ) -> str | None:
        """Store an answer; with the second one of a pair the vote, if both are verdicts.

        The same again changes nothing.

        Args:
            judge: The rater id.
            candidates_id: The pair.
            first_shown: The label of the reply that was shown first.
            picked: The label that was preferred, "tie", or None if the answer was no verdict.

        Returns:
            The vote, if there is one now.

        Raises:
            UnknownRecordError: Nobody may be asked about the pair any more; nothing was stored.
        """
        one_of(first_shown, LABELS, "the label that was shown first")
        one_of(picked, PICKS, "what a judge picked")
        about = {"rater_id": judge, "candidates_id": candidates_id}

        def work(db: Database) -> str | None:
            """Keep the answer; with both orders answered, store the vote and return it."""
            require(db, "judges", judge, key="rater_id")
            if not _may_ask(db, candidates_id):
                raise UnknownRecordError(
                    f"the pair {candidates_id!r} was deleted or left out; nothing was stored."
                )
            db.execute(_KEEP, [judge, candidates_id, first_shown, picked, utc_now()])
            found = rows(db, _ANSWERS, {"judge": judge, "candidates": candidates_id})
            vote = vote_of([row["picked"] for row in found])
            if vote is not None:
                content = {"choice": vote, "strength": None, "seconds": None}
                record_event(db, "choices", about, content, None, given={"choice"})
            return vote

        return self._file.run(work)

    def add_judge_probe(
        self, judge: str, probe: str, *, first_shown: str, picked: str | None
    ) -> None:
        """Store an answer about a pair of ours; the same again changes nothing."""
        one_of(first_shown, LABELS, "the label that was shown first")
        one_of(picked, PICKS, "what a judge picked")
        with self._file.write() as db:
            db.execute(_KEEP_PROBE, [judge, probe, first_shown, picked, utc_now()])

    def probes_asked(self, judge: str) -> set[tuple[str, str]]:
        """The probes that a judge has answered, each with the label that was shown first."""
        with self._file.read() as db:
            sql = "SELECT probe, first FROM judge_probes WHERE rater_id = ?"
            return {(row["probe"], row["first"]) for row in rows(db, sql, [judge])}

    def judge_report(self, judge: str) -> JudgeReport:
        """How a judge votes, beside people: sides, length, probes, agreement."""
        with self._file.long_read() as db:
            require(db, "judges", judge, key="rater_id")
            return judge_report(db, judge)


def new_judge(model: str, endpoint: str, principles: str) -> Judge:
    """The judge that this is, not stored: another model, endpoint or text makes another one.

    Raises:
        InvalidFeedbackError: One of the three is empty.
    """
    for name, text in (("model", model), ("endpoint", endpoint), ("principles", principles)):
        if not text.strip():
            raise InvalidFeedbackError(f"the {name} of a judge is empty; give one.")
    return Judge(judge_id(model, endpoint, principles), model, endpoint, principles, utc_now())


def judge_id(model: str, endpoint: str, principles: str) -> str:
    """The rater id of a judge: the model's name, and a hash of all that makes it this judge."""
    name = re.sub(r"[^\w.-]+", "-", model)[:_CHARS]
    digest = hashlib.sha256(json.dumps([model, endpoint, principles]).encode()).hexdigest()
    return f"judge-{name}-{digest[:8]}"


def vote_of(picks: list[str | None]) -> str | None:
    """The vote that the answers in both orders make; None without two verdicts."""
    if len(picks) < 2 or None in picks:
        return None
    return picks[0] if picks[0] == picks[1] else "tie"


def _may_ask(db: Database, candidates_id: str) -> bool:
    return first(db, f"SELECT 1 {_MAY_ASK} AND candidates.id = ?", [candidates_id]) is not None
