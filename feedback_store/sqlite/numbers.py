"""Numbers in the order of arrival: how a cycle knows what is new without looking at what is old.

A row of these tables gets the next number of its table; the rows of one opinion share one. No
number is given twice, not even when the row is deleted, so "above the number that the last cycle
saw" is exactly what has come since.
"""

from sqlite_utils import Database

NUMBERED = ("comparisons", "unpaired", "demonstrations")


def take_numbers(db: Database, table: str, count: int) -> range:
    """The next numbers of a table, which nobody else gets."""
    last = last_numbers(db)[table]
    db.conn.execute(
        "INSERT INTO bookkeeping VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [_name(table), last + count],
    )
    return range(last + 1, last + count + 1)


def take_numbers_again(db: Database, rater_id: str) -> None:
    """Give new numbers to what a rater said and was not heard before: heard only now, it is new.

    Comparisons that a cycle has used keep theirs. Which thumbs and demonstrations it used is not
    noted, so all of those are new again.
    """
    used = "AND id NOT IN (SELECT comparison_id FROM cycle_comparisons)"
    for table in NUMBERED:
        whose = f"rater_id = ? {used if table == 'comparisons' else ''}"
        sql = f"SELECT count(DISTINCT number) FROM {table} WHERE {whose}"
        [(count,)] = db.conn.execute(sql, [rater_id])
        first = take_numbers(db, table, count).start  # above all that were given before
        db.conn.execute(
            f"UPDATE {table} SET number = again.number FROM ("
            f"  SELECT id, ? - 1 + dense_rank() OVER (ORDER BY number) AS number"
            f"  FROM {table} WHERE {whose}"
            f") AS again WHERE again.id = {table}.id",
            [first, rater_id],
        )


def last_numbers(db: Database) -> dict[str, int]:
    """The last number that each table has given, 0 before the first."""
    sql = "SELECT name, value FROM bookkeeping WHERE name IN (?, ?, ?)"
    known = dict(db.conn.execute(sql, [_name(table) for table in NUMBERED]).fetchall())
    return {table: known.get(_name(table), 0) for table in NUMBERED}


def _name(table: str) -> str:
    return f"last_number_of_{table}"
