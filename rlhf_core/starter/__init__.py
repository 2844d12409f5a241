"""The embedded default: a small world of familiar facts, its flawed corpus, raters and model."""
