"""The embedded default: a small world of familiar facts, its flawed corpus, raters and model."""

from pathlib import Path


def model_path() -> Path:
    """Directory of the shipped starter model."""
    return Path(__file__).parent / "model"
