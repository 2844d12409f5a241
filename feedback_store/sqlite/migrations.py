"""The schema, as an append-only list of migrations.

A released migration is never edited, renamed or removed: the next change is a new one at the end.
`sqlite_utils.Migrations` runs each in one transaction together with the note that it ran; the file
lock that keeps two processes from running them at once is in `database.py`.
"""

from sqlite_utils import Database, Migrations

from feedback_store.records import BASE_ADAPTER
from feedback_store.sqlite.ids import utc_now
from feedback_store.sqlite.migration_0002 import SCHEMA as _SECOND_SCHEMA
from feedback_store.sqlite.migration_0002 import carry_over
from feedback_store.sqlite.migration_0003 import add_search
from feedback_store.sqlite.migration_0009 import add_numbers
from feedback_store.sqlite.migration_0020 import SCHEMA as _FEED_SCHEMA
from feedback_store.sqlite.migration_0021 import SCHEMA as _JUDGES_SCHEMA

APPLICATION_ID = 0x66646263  # "fdbc": tells our files from any other SQLite database

MIGRATIONS = Migrations("feedback_store")

_FIRST_SCHEMA = (
    """CREATE TABLE raters (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('person', 'simulated', 'operator')),
        consent TEXT,
        created_at TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE conversations (
        id TEXT PRIMARY KEY,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        title TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX conversations_of_rater ON conversations (rater_id, created_at)",
    """CREATE TABLE candidates (
        id TEXT PRIMARY KEY,
        prompt_message_id TEXT NOT NULL REFERENCES messages (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        created_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX candidates_of_prompt ON candidates (prompt_message_id)",
    "CREATE INDEX candidates_of_rater ON candidates (rater_id)",
    """CREATE TABLE messages (
        id TEXT PRIMARY KEY,
        conversation_id TEXT NOT NULL REFERENCES conversations (id),
        parent_id TEXT REFERENCES messages (id),
        role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
        content TEXT NOT NULL,
        adapter TEXT,
        sampling TEXT,
        seed INTEGER,
        finish_reason TEXT CHECK (finish_reason IN ('stop', 'length', 'cancelled', 'error')),
        candidates_id TEXT REFERENCES candidates (id),
        label TEXT,
        created_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX messages_of_conversation ON messages (conversation_id, created_at)",
    "CREATE INDEX messages_of_parent ON messages (parent_id)",
    "CREATE UNIQUE INDEX messages_of_candidates ON messages (candidates_id, label)"
    " WHERE candidates_id IS NOT NULL",
    """CREATE TABLE thumbs (
        id TEXT PRIMARY KEY,
        message_id TEXT NOT NULL REFERENCES messages (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        value INTEGER NOT NULL CHECK (value IN (-1, 0, 1)),
        tags TEXT NOT NULL,
        comment TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT""",
    "CREATE INDEX thumbs_of_message ON thumbs (message_id)",
    "CREATE UNIQUE INDEX thumbs_current ON thumbs (message_id, rater_id)"
    " WHERE superseded_at IS NULL",
    """CREATE TABLE choices (
        id TEXT PRIMARY KEY,
        candidates_id TEXT NOT NULL REFERENCES candidates (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie', 'both_bad')),
        strength REAL,
        seconds REAL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT""",
    "CREATE INDEX choices_of_candidates ON choices (candidates_id)",
    "CREATE UNIQUE INDEX choices_current ON choices (candidates_id, rater_id)"
    " WHERE superseded_at IS NULL",
    """CREATE TABLE rankings (
        id TEXT PRIMARY KEY,
        candidates_id TEXT NOT NULL REFERENCES candidates (id),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        "order" TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT""",
    "CREATE INDEX rankings_of_candidates ON rankings (candidates_id)",
    "CREATE UNIQUE INDEX rankings_current ON rankings (candidates_id, rater_id)"
    " WHERE superseded_at IS NULL",
    """CREATE TABLE demonstrations (
        id TEXT PRIMARY KEY,
        rater_id TEXT NOT NULL REFERENCES raters (id),
        message_id TEXT REFERENCES messages (id),
        prompt TEXT NOT NULL,
        content TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        created_at TEXT NOT NULL,
        superseded_at TEXT,
        UNIQUE (rater_id, idempotency_key)
    ) STRICT""",
    "CREATE INDEX demonstrations_of_message ON demonstrations (message_id)",
    "CREATE UNIQUE INDEX demonstrations_current ON demonstrations (message_id, rater_id)"
    " WHERE superseded_at IS NULL AND message_id IS NOT NULL",
    """CREATE TABLE comparisons (
        id TEXT PRIMARY KEY,
        prompt TEXT NOT NULL,
        response_a TEXT NOT NULL,
        response_b TEXT NOT NULL,
        label TEXT NOT NULL CHECK (label IN ('a', 'b', 'tie')),
        source TEXT NOT NULL CHECK (source IN ('choice', 'ranking', 'edit', 'thumbs')),
        weight REAL NOT NULL CHECK (weight > 0),
        rater_id TEXT NOT NULL REFERENCES raters (id),
        split TEXT NOT NULL CHECK (split IN ('train', 'held_out')),
        created_at TEXT NOT NULL,
        withdrawn_at TEXT
    ) STRICT""",
    "CREATE INDEX comparisons_of_rater ON comparisons (rater_id)",
    """CREATE TABLE comparison_events (
        comparison_id TEXT NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
        event_id TEXT NOT NULL,
        PRIMARY KEY (comparison_id, event_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX comparisons_of_event ON comparison_events (event_id)",
    """CREATE TABLE adapters (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('policy', 'reward')),
        parent TEXT,
        cycle_id INTEGER REFERENCES cycles (id),
        state TEXT NOT NULL CHECK (state IN ('candidate', 'published', 'rejected')),
        metrics TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE serving (
        id INTEGER PRIMARY KEY,
        adapter TEXT NOT NULL REFERENCES adapters (name),
        previous TEXT REFERENCES adapters (name),
        since TEXT NOT NULL,
        "by" TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE cycles (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        state TEXT NOT NULL
            CHECK (state IN ('running', 'promoted', 'rejected', 'refused', 'failed')),
        stage TEXT NOT NULL,
        progress REAL NOT NULL CHECK (progress BETWEEN 0 AND 1),
        adapter TEXT,
        reasons TEXT NOT NULL,
        metrics TEXT NOT NULL,
        config TEXT NOT NULL,
        pid INTEGER NOT NULL,
        process TEXT,
        started_at TEXT NOT NULL,
        finished_at TEXT
    ) STRICT""",
    "CREATE UNIQUE INDEX cycles_running ON cycles (state) WHERE state = 'running'",
    """CREATE TABLE cycle_comparisons (
        cycle_id INTEGER NOT NULL REFERENCES cycles (id),
        comparison_id TEXT NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
        PRIMARY KEY (cycle_id, comparison_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX cycles_of_comparison ON cycle_comparisons (comparison_id)",
    """CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT""",
    "CREATE TABLE bookkeeping (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID",
)


@MIGRATIONS(name="0001_first_schema")
def _first_schema(db: Database) -> None:
    for statement in _FIRST_SCHEMA:
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    now = utc_now()
    db.execute(
        "INSERT INTO adapters (name, kind, state, metrics, created_at)"
        " VALUES (?, 'policy', 'published', '{}', ?)",
        [BASE_ADAPTER, now],
    )
    db.execute(
        "INSERT INTO serving (adapter, since, \"by\") VALUES (?, ?, 'installation')",
        [BASE_ADAPTER, now],
    )


@MIGRATIONS(name="0002_hashes_and_unpaired")
def _hashes_and_unpaired(db: Database) -> None:
    carry_over(db, _SECOND_SCHEMA)


@MIGRATIONS(name="0003_search")
def _search(db: Database) -> None:
    add_search(db)


@MIGRATIONS(name="0004_rater_weights")
def _rater_weights(db: Database) -> None:
    # Sums by rater are wanted at every reading: these hold all that they need.
    db.execute("CREATE INDEX comparisons_said ON comparisons (rater_id, withdrawn_at, weight)")
    db.execute("CREATE INDEX unpaired_said ON unpaired (rater_id, weight)")
    db.execute("CREATE INDEX candidates_gold ON candidates (gold) WHERE gold IS NOT NULL")


@MIGRATIONS(name="0005_sums_by_key")
def _sums_by_key(db: Database) -> None:
    # Derived rows lie by rater, so sums by rater need no index; keeping one took a third of the
    # pages that deriving writes.
    db.execute("DROP INDEX comparisons_said")
    db.execute("DROP INDEX unpaired_said")


@MIGRATIONS(name="0006_taught")
def _taught(db: Database) -> None:
    # Which adapters learnt from a rater, or may have, where what they learnt from is deleted.
    db.execute(
        """CREATE TABLE taught (
            rater_id TEXT NOT NULL REFERENCES raters (id),
            adapter TEXT NOT NULL REFERENCES adapters (name),
            PRIMARY KEY (rater_id, adapter)
        ) STRICT, WITHOUT ROWID"""
    )


@MIGRATIONS(name="0007_used_as")
def _used_as(db: Database) -> None:
    # How a cycle used a comparison: a fact, while the split of a comparison is derived.
    db.execute(
        "ALTER TABLE cycle_comparisons ADD COLUMN used_as TEXT NOT NULL DEFAULT 'train'"
        " CHECK (used_as IN ('train', 'held_out', 'held_out_raters'))"
    )
    db.execute(
        "UPDATE cycle_comparisons SET used_as ="
        " (SELECT split FROM comparisons WHERE id = comparison_id)"
    )
    # Until now cycles noted all that they read, but used no vote of a held-out rater; and nothing
    # lasts of a cycle that was refused, or that failed before it had made an adapter.
    db.execute(
        "DELETE FROM cycle_comparisons WHERE used_as = 'held_out_raters' OR cycle_id IN ("
        " SELECT id FROM cycles WHERE state IN ('refused', 'failed')"
        " AND NOT EXISTS (SELECT 1 FROM adapters WHERE adapters.cycle_id = cycles.id))"
    )


@MIGRATIONS(name="0008_replies_by_path")
def _replies_by_path(db: Database) -> None:
    # A client of the API sends the whole dialogue with every turn: this finds where it goes on.
    db.execute("CREATE INDEX messages_of_path ON messages (path_hash) WHERE adapter IS NOT NULL")


@MIGRATIONS(name="0009_numbers")
def _numbers(db: Database) -> None:
    add_numbers(db)


@MIGRATIONS(name="0010_origins")
def _origins(db: Database) -> None:
    # A keyed hash of the address that made a rater, and whether the rater has agreed with others.
    # Of those who are there already it is not known, so each of them counts alone, as before.
    db.execute("ALTER TABLE raters ADD COLUMN origin TEXT")
    db.execute(
        "ALTER TABLE raters ADD COLUMN proven INTEGER NOT NULL DEFAULT 0 CHECK (proven IN (0, 1))"
    )


@MIGRATIONS(name="0011_keys")
def _keys(db: Database) -> None:
    db.execute(
        """CREATE TABLE keys (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            role TEXT NOT NULL CHECK (role IN ('visitor', 'labeler', 'operator')),
            gateway INTEGER NOT NULL CHECK (gateway IN (0, 1)),
            hash TEXT NOT NULL UNIQUE,
            created_at TEXT NOT NULL,
            used_on TEXT,
            revoked_at TEXT
        ) STRICT"""
    )
    db.execute("CREATE UNIQUE INDEX keys_in_use ON keys (name) WHERE revoked_at IS NULL")


@MIGRATIONS(name="0012_trials")
def _trials(db: Database) -> None:
    # A cycle whose candidate passed the gate waits for what people or the operator say.
    widen_check(db, "cycles", "'running', 'promoted'", "'running', 'passed', 'promoted'")
    db.execute(
        """CREATE TABLE trials (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL CHECK (kind IN ('canary', 'guard')),
            adapter TEXT NOT NULL REFERENCES adapters (name),
            other TEXT NOT NULL REFERENCES adapters (name),
            started_at TEXT NOT NULL,
            ended_at TEXT,
            outcome TEXT CHECK (outcome IN ('better', 'worse', 'not_shown', 'stopped')),
            reason TEXT,
            CHECK ((ended_at IS NULL) = (outcome IS NULL))
        ) STRICT"""
    )
    db.execute(
        "CREATE UNIQUE INDEX trials_open ON trials (ended_at IS NULL) WHERE ended_at IS NULL"
    )
    db.execute("ALTER TABLE candidates ADD COLUMN trial_id INTEGER REFERENCES trials (id)")
    db.execute(
        "CREATE INDEX candidates_of_trial ON candidates (trial_id) WHERE trial_id IS NOT NULL"
    )


def widen_check(db: Database, table: str, old: str, new: str) -> None:
    """Let a table's CHECK take more values than before, without copying its rows.

    Source: sqlite.org/lang_altertable.html, section 7: the text of the schema may be changed where
    the rows stay as they are and all of them fit.
    """
    version = db.execute("PRAGMA schema_version").fetchone()[0]
    db.execute("PRAGMA writable_schema = ON")
    db.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
        [old, new, table],
    )
    db.execute(f"PRAGMA schema_version = {version + 1}")
    db.execute("PRAGMA writable_schema = OFF")


@MIGRATIONS(name="0013_alarms")
def _alarms(db: Database) -> None:
    # Alarms, each once by its kind and key; `next_try_at` is null where there is nothing to send.
    db.execute(
        """CREATE TABLE alarms (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            text TEXT NOT NULL,
            value REAL,
            "limit" REAL,
            cycle_id INTEGER REFERENCES cycles (id),
            raised_at TEXT NOT NULL,
            tries INTEGER NOT NULL DEFAULT 0,
            next_try_at TEXT,
            UNIQUE (kind, key)
        ) STRICT"""
    )
    db.execute("CREATE INDEX alarms_due ON alarms (next_try_at) WHERE next_try_at IS NOT NULL")
    # Nobody wants to hear now of the cycles that ended long ago.
    db.execute(
        "INSERT INTO bookkeeping (name, value)"
        " SELECT 'watched_cycle', coalesce(max(id), 0) FROM cycles WHERE state != 'running'"
    )


@MIGRATIONS(name="0014_cancelled")
def _cancelled(db: Database) -> None:
    widen_check(db, "cycles", "'failed')", "'failed', 'cancelled')")


@MIGRATIONS(name="0015_arms")
def _arms(db: Database) -> None:
    # How the replies of a side-by-side were chosen, and with which probability. Before, by lot.
    db.execute("ALTER TABLE candidates ADD COLUMN arm TEXT CHECK (arm IN ('random', 'active'))")
    db.execute(
        "ALTER TABLE candidates ADD COLUMN propensity REAL"
        " CHECK (propensity > 0 AND propensity <= 1)"
    )
    # What the rater says of a retry beside what it replaced; NULL: nothing.
    db.execute(
        "ALTER TABLE retries ADD COLUMN than_before TEXT"
        " CHECK (than_before IN ('better', 'same', 'worse'))"
    )
    widen_check(db, "comparisons", "'thumbs', 'retry')", "'thumbs', 'retry', 'than_before')")


@MIGRATIONS(name="0016_conversation_list")
def _conversation_list(db: Database) -> None:
    # What raters do with the list of their conversations: pin one, and delete one with an undo.
    db.execute(
        "ALTER TABLE conversations ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0"
        " CHECK (pinned IN (0, 1))"
    )
    db.execute("ALTER TABLE conversations ADD COLUMN deleted_at TEXT")
    db.execute(
        "CREATE INDEX conversations_deleted ON conversations (deleted_at)"
        " WHERE deleted_at IS NOT NULL"
    )


@MIGRATIONS(name="0017_pages")
def _pages(db: Database) -> None:
    # The page on which a conversation began, if that page has a list of its own; NULL: the chat.
    db.execute("ALTER TABLE conversations ADD COLUMN page TEXT")


@MIGRATIONS(name="0018_reasons")
def _reasons(db: Database) -> None:
    # Why a choice was made: tags and a comment, as a thumb has them.
    db.execute("ALTER TABLE choices ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'")
    db.execute("ALTER TABLE choices ADD COLUMN comment TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="0019_left_out")
def _left_out(db: Database) -> None:
    # What the operator leaves out of training: a conversation, or one vote (an event's id).
    db.execute(
        """CREATE TABLE left_out (
            kind TEXT NOT NULL CHECK (kind IN ('conversation', 'vote')),
            id TEXT NOT NULL,
            "by" TEXT NOT NULL,
            reason TEXT NOT NULL,
            at TEXT NOT NULL,
            PRIMARY KEY (kind, id)
        ) STRICT, WITHOUT ROWID"""
    )
    # Whose words are in which exported file, by the hash that `forgotten` has, too. A file of
    # before is not in it.
    db.execute(
        """CREATE TABLE exported (
            rater TEXT NOT NULL,
            path TEXT NOT NULL,
            at TEXT NOT NULL,
            PRIMARY KEY (rater, path)
        ) STRICT, WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX exported_to ON exported (path)")


@MIGRATIONS(name="0020_feed")
def _feed(db: Database) -> None:
    for statement in _FEED_SCHEMA:
        db.conn.execute(statement)


@MIGRATIONS(name="0021_judges")
def _judges(db: Database) -> None:
    widen_check(db, "raters", "'simulated', 'operator')", "'simulated', 'operator', 'judge')")
    for statement in _JUDGES_SCHEMA:
        db.conn.execute(statement)


def known_migrations() -> set[str]:
    """Names of all migrations of this version of the program."""
    with Database(memory=True, execute_plugins=False) as empty:
        return {migration.name for migration in MIGRATIONS.pending(empty)}
