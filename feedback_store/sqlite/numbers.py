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
    """Give new numbers to what a rater said and no cycle has used: heard only now, it is new."""
    used = "AND id NOT IN (SELECT comparison_id FROM cycle_comparisons)"
    for table in NUMBERED:
        whose = f"rater_id = ? {used if table == 'comparisons' else ''}"
        sql = f"SELECT DISTINCT number FROM {table} WHERE {whose} ORDER BY number"
        before = [number for (number,) in db.execute(sql, [rater_id])]
        if before:
            after = take_numbers(db, table, len(before))  # all above those before
            changes = [(new, rater_id, old) for new, old in zip(after, before, strict=True)]
            db.conn.executemany(
                f"UPDATE {table} SET number = ? WHERE {whose} AND number = ?", changes
            )


def last_numbers(db: Database) -> dict[str, int]:
    """The last number that each table has given, 0 before the first."""
    sql = "SELECT name, value FROM bookkeeping WHERE name IN (?, ?, ?)"
    known = dict(db.conn.execute(sql, [_name(table) for table in NUMBERED]).fetchall())
    return {table: known.get(_name(table), 0) for table in NUMBERED}


def _name(table: str) -> str:
    return f"last_number_of_{table}"
