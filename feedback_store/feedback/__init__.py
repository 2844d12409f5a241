"""What people said: conversations, messages, votes, rewritten answers and gold questions."""
