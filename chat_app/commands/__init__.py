"""The command `feedback-chat`: one module for each group of commands."""
