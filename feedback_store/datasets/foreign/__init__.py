"""Data sets of others: one module for each format, and what they share."""
