"""The command ``feedback-chat``, and ``python -m chat_app``, which is the same.

Its modules are loaded inside `main`, so Ctrl-C while they load ends as quietly as it does later.
"""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it; it always ends with an exit code."""
    try:
        from chat_app.commands.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("feedback-chat: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
