"""Backups of a data directory: made, checked by restoring them, rotated, made every day.

`copying` makes one while the service goes on, `checking` restores one for a trial or for good,
`rotation` says which ones to keep, `routine` does all of it, now or when it is due.
"""
