"""The one way to SQLite: open, migrate, read, write, and check what is on disk."""
