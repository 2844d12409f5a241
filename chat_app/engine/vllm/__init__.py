"""Replies from servers of vLLM: `engine` asks, `replicas` keeps them alike, `replica` is one."""
