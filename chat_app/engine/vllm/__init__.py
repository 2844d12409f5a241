"""Replies from servers of vLLM: `engine` asks them, `replicas` keeps them alike."""
