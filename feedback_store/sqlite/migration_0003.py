"""Full-text search over messages, the notes of who was forgotten, and the marks on adapters.

The index holds no text of its own: it points into `messages` and is kept in step by triggers.
`searchable` numbers the messages for it, since VACUUM may renumber rows that have no number of
their own. Deleting a message takes its words out of the index at once ("secure-delete").
"""

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

OLDEST_WITH_SECURE_DELETE = (3, 42)

SCHEMA = (
    # when somebody was forgotten whose words are, or may be, in the weights
    "ALTER TABLE adapters ADD COLUMN tainted_at TEXT",
    # `rater` is a hash, so that it names nobody; `rater_id` is there until the rows are gone
    """CREATE TABLE forgotten (
        rater TEXT PRIMARY KEY,
        rater_id TEXT,
        since TEXT NOT NULL,
        begun_at TEXT NOT NULL,
        "rows" TEXT NOT NULL DEFAULT '{}',
        adapters TEXT NOT NULL DEFAULT '[]',
        done_at TEXT
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE searchable (
        number INTEGER PRIMARY KEY,
        message_id TEXT NOT NULL UNIQUE REFERENCES messages (id)
    ) STRICT""",
    """CREATE VIEW searched AS SELECT number, content
        FROM searchable JOIN messages ON messages.id = searchable.message_id""",
    """CREATE VIRTUAL TABLE message_search USING fts5 (
        content, content = 'searched', content_rowid = 'number',
        tokenize = 'unicode61 remove_diacritics 2')""",
    """CREATE TRIGGER message_is_searchable AFTER INSERT ON messages BEGIN
        INSERT INTO searchable (message_id) VALUES (new.id);
        INSERT INTO message_search (rowid, content) VALUES (last_insert_rowid(), new.content);
    END""",
    """CREATE TRIGGER message_is_gone BEFORE DELETE ON messages BEGIN
        INSERT INTO message_search (message_search, rowid, content)
            SELECT 'delete', number, old.content FROM searchable WHERE message_id = old.id;
        DELETE FROM searchable WHERE message_id = old.id;
    END""",
)


def add_search(db: Database) -> None:
    """Change the schema and index the messages that are there."""
    for statement in SCHEMA:
        db.conn.execute(statement)
    if sqlite3.sqlite_version_info >= OLDEST_WITH_SECURE_DELETE:
        db.conn.execute(
            "INSERT INTO message_search (message_search, rank) VALUES ('secure-delete', 1)"
        )
    db.conn.execute("INSERT INTO searchable (message_id) SELECT id FROM messages ORDER BY rowid")
    db.conn.execute("INSERT INTO message_search (message_search) VALUES ('rebuild')")
