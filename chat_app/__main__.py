"""``python -m chat_app``: the same as the command ``feedback-chat``."""

from chat_app.commands.main import main

if __name__ == "__main__":
    main()
