"""Replies from servers of vLLM: `replica` is one server, `rollouts` has a cycle's replies there."""
