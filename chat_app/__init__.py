"""What people and operators touch: the web pages, the HTTP API, the engine, the command line.

Nothing here trains. The app meets the training cycle only in the data directory: the store's rows
and the adapter directories.
"""

__version__ = "0.1.0"
