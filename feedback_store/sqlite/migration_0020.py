"""The feed, the counts of votes with what is there already, and how far each webhook is."""

SCHEMA = (
    """CREATE TABLE feed (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        about TEXT NOT NULL,
        at TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE vote_counts (
        kind TEXT NOT NULL,
        said TEXT NOT NULL,
        votes INTEGER NOT NULL,
        PRIMARY KEY (kind, said)
    ) STRICT, WITHOUT ROWID""",
    # How far each webhook is: the last row of the feed that it has taken.
    """CREATE TABLE webhooks (
        id TEXT PRIMARY KEY,
        taken INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        next_try_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """INSERT INTO vote_counts SELECT 'thumb',
        CASE value WHEN 1 THEN 'up' WHEN -1 THEN 'down' ELSE 'withdrawn' END, count(*)
        FROM thumbs GROUP BY value""",
    "INSERT INTO vote_counts SELECT 'choice', choice, count(*) FROM choices GROUP BY choice",
    "INSERT INTO vote_counts SELECT 'ranking', '', count(*) FROM rankings HAVING count(*) > 0",
    """INSERT INTO vote_counts SELECT 'demonstration', '', count(*) FROM demonstrations
        HAVING count(*) > 0""",
    """INSERT INTO vote_counts SELECT 'retry', coalesce(than_before, ''), count(*) FROM retries
        GROUP BY than_before""",
)
