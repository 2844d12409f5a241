"""Model judges and each answer that they gave, so that none is asked for twice; and screening."""

SCHEMA = (
    """CREATE TABLE judges (
        rater_id TEXT PRIMARY KEY REFERENCES raters (id) ON DELETE CASCADE,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        principles TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # `first` is the label of the reply that was shown first; `picked` the one that was preferred,
    # 'tie', or NULL: the answer was no verdict.
    """CREATE TABLE judge_answers (
        rater_id TEXT NOT NULL REFERENCES judges (rater_id) ON DELETE CASCADE,
        candidates_id TEXT NOT NULL REFERENCES candidates (id) ON DELETE CASCADE,
        first TEXT NOT NULL CHECK (first IN ('a', 'b')),
        picked TEXT CHECK (picked IN ('a', 'b', 'tie')),
        at TEXT NOT NULL,
        PRIMARY KEY (rater_id, candidates_id, first)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX judge_answers_of_candidates ON judge_answers (candidates_id)",
    # The same for probes: pairs of ours that differ by one thing alone, which is in reply b.
    """CREATE TABLE judge_probes (
        rater_id TEXT NOT NULL REFERENCES judges (rater_id) ON DELETE CASCADE,
        probe TEXT NOT NULL,
        first TEXT NOT NULL CHECK (first IN ('a', 'b')),
        picked TEXT CHECK (picked IN ('a', 'b', 'tie')),
        at TEXT NOT NULL,
        PRIMARY KEY (rater_id, probe, first)
    ) STRICT, WITHOUT ROWID""",
    # Whether a rater passed the test of the team; NULL: there is no result.
    "ALTER TABLE raters ADD COLUMN passed INTEGER CHECK (passed IN (0, 1))",
)
