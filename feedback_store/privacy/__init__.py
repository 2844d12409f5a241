"""Forgetting a rater and deleting what is old: which rows go, and what has learnt from them."""
