"""Data sets in and out: raw events, TRL's formats, and one module for each foreign format."""
