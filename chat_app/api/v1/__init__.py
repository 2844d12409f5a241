"""The routes under `/v1`: fields of their requests, OpenAI's shapes, clients' chores."""
