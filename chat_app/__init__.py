"""What people and operators use: the web pages, the HTTP API, the engine, the command line.

The app does not train. It shares only the data directory with the training cycle: the store and the
adapter directories.
"""

__version__ = "0.1.0"
