"""Numbers by which a cycle knows what is new, and the prompts without a vote that it used.

Until now a comparison was new if no cycle had noted it as used. From now on it is new if its number
is above the one that the last cycle saw. So those that were used get the lower numbers, and every
cycle that came to a verdict has seen exactly these.
"""

import json

from sqlite_utils import Database

from feedback_store.splits import split_of
from feedback_store.sqlite.numbers import NUMBERED

_COLUMNS = (
    *(f"ALTER TABLE {table} ADD COLUMN number INTEGER NOT NULL DEFAULT 0" for table in NUMBERED),
    "ALTER TABLE demonstrations ADD COLUMN held_out INTEGER NOT NULL DEFAULT 0",
    # the last number of each table when the cycle's snapshot was taken, as JSON
    "ALTER TABLE cycles ADD COLUMN seen TEXT NOT NULL DEFAULT '{}'",
    """CREATE TABLE cycle_prompts (
        message_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        cycle_id INTEGER NOT NULL REFERENCES cycles (id),
        PRIMARY KEY (message_id, cycle_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX prompts_of_cycle ON cycle_prompts (cycle_id)",
)
# The rows of one opinion share a number: the pairs of a ranking, a rater's thumbs on a prompt.
_NUMBERS = (
    """UPDATE comparisons SET number = numbered.number FROM (
        SELECT id, dense_rank() OVER (ORDER BY new, rater_id, prompt_hash, opinion) AS number
        FROM (SELECT id, rater_id, prompt_hash,
            CASE source WHEN 'ranking' THEN event_ids WHEN 'thumbs' THEN source ELSE id END
                AS opinion,
            split <> 'held_out_raters' AND NOT EXISTS (
                SELECT 1 FROM cycle_comparisons JOIN cycles ON cycles.id = cycle_id
                WHERE comparison_id = comparisons.id
                AND cycles.state IN ('running', 'promoted', 'rejected')) AS new
            FROM comparisons)) AS numbered
        WHERE numbered.id = comparisons.id""",
    """UPDATE unpaired SET number = numbered.number FROM (
        SELECT id, dense_rank() OVER (ORDER BY created_at, event_id) AS number FROM unpaired
        ) AS numbered WHERE numbered.id = unpaired.id""",
    """UPDATE demonstrations SET number = numbered.number FROM (
        SELECT id, row_number() OVER (ORDER BY created_at, rowid) AS number FROM demonstrations
        ) AS numbered WHERE numbered.id = demonstrations.id""",
    *(
        f"INSERT INTO bookkeeping SELECT 'last_number_of_{table}', max(number) FROM {table}"
        " HAVING count(*) > 0"
        for table in NUMBERED
    ),
    """UPDATE cycles SET seen = json_object(
        'comparisons', (SELECT coalesce(max(number), 0) FROM comparisons
            WHERE id IN (SELECT comparison_id FROM cycle_comparisons JOIN cycles
                ON cycles.id = cycle_id AND state IN ('running', 'promoted', 'rejected'))
            OR split = 'held_out_raters'),
        'unpaired', (SELECT coalesce(max(number), 0) FROM unpaired
            WHERE unpaired.created_at <= cycles.started_at),
        'demonstrations', (SELECT coalesce(max(number), 0) FROM demonstrations
            WHERE demonstrations.created_at <= cycles.started_at))""",
)
_INDEXES = (
    "CREATE INDEX comparisons_by_number ON comparisons (split, number) WHERE withdrawn_at IS NULL",
    "CREATE INDEX unpaired_by_number ON unpaired (split, number)",
    "CREATE INDEX demonstrations_by_number ON demonstrations (held_out, number)"
    " WHERE superseded_at IS NULL",
    "CREATE INDEX cycles_by_state ON cycles (state)",
)


def add_numbers(db: Database) -> None:
    """Change the schema, and number what is there."""
    for statement in (*_COLUMNS, *_NUMBERS):
        db.conn.execute(statement)
    for name, prompt in db.conn.execute("SELECT id, prompt FROM demonstrations").fetchall():
        if split_of(json.loads(prompt)) == "held_out":
            db.conn.execute("UPDATE demonstrations SET held_out = 1 WHERE id = ?", [name])
    for statement in _INDEXES:
        db.conn.execute(statement)
