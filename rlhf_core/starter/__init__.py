"""The embedded default: a small world of familiar facts, its flawed corpus, raters and model."""

from pathlib import Path

__all__ = ["model_path"]


def model_path() -> Path:
    """Directory of the shipped starter model."""
    return Path(__file__).parent / "model"
