"""Whose values a model has: who the raters are, as numbers, and an adapter's card that says so."""
