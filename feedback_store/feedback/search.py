"""Full-text search over all conversations except gold questions and deleted ones, for operators.

Any text is a query, without a syntax: a message matches if it has all words of the query, in any
case and with or without accents. Triggers keep the index (`migration_0003`), so in every
transaction it holds what `messages` holds.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from feedback_store.errors import InvalidFeedbackError, say
from feedback_store.feedback.conversations import GOLD_CONVERSATIONS
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import rows, to_record

MOST_HITS = 1_000
MOST_WORDS = 64  # FTS5 refuses an expression of some hundred terms
_SNIPPET_WORDS = 16

_SEARCH = f"""SELECT messages.conversation_id, messages.id AS message_id, conversations.rater_id,
        messages.role, snippet(message_search, 0, '[', ']', '...', {_SNIPPET_WORDS}) AS snippet,
        messages.created_at, message_search.rank
    FROM message_search
    JOIN searchable ON searchable.number = message_search.rowid
    JOIN messages ON messages.id = searchable.message_id
    JOIN conversations ON conversations.id = messages.conversation_id
    WHERE message_search MATCH ? AND deleted_at IS NULL
    AND conversations.id NOT IN ({GOLD_CONVERSATIONS})
    ORDER BY message_search.rank, message_search.rowid DESC LIMIT ?"""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that matches; its `snippet` shows the words of the query in brackets.

    `rank` is SQLite's BM25: lower is better.
    """

    conversation_id: str
    message_id: str
    rater_id: str
    role: str
    snippet: str
    created_at: str
    rank: float


class Search:
    """Search in a store."""

    _file: SQLiteFile

    def search(self, query: str, limit: int = 50) -> list[SearchHit]:
        """Messages with all words of the query, best first; of equal ones the newer first.

        Raises:
            InvalidFeedbackError: The query has no word or too many, or the limit is out of range.
        """
        if not 1 <= limit <= MOST_HITS:
            raise InvalidFeedbackError(f"{limit} hits cannot be given; ask for 1 to {MOST_HITS}.")
        expression = _expression(query)
        with self._file.long_read() as db:
            return [to_record(SearchHit, row) for row in rows(db, _SEARCH, [expression, limit])]


def quoted_words(words: Sequence[str], *, ends: str = "") -> str:
    """An expression of FTS5 that finds all words, each read literally; `ends` is "*" for parts."""
    return " ".join('"' + word.replace('"', '""') + '"' + ends for word in words)


def folded(text: str) -> str:
    """A text without case and accents, about as the index folds it."""
    parts = unicodedata.normalize("NFD", text.casefold())
    return "".join(sign for sign in parts if not unicodedata.combining(sign))


def _expression(query: str) -> str:
    """Each word in quotes; a NUL would end the expression."""
    words = list(dict.fromkeys(query.replace("\0", " ").split()))
    if not 1 <= len(words) <= MOST_WORDS:
        raise InvalidFeedbackError(
            say(
                "a search for {count} words; give between 1 and {most}.",
                count=len(words),
                most=MOST_WORDS,
            )
        )
    return quoted_words(words)
