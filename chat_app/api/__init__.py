"""The HTTP API: routes, what requests say, errors in one shape, and what every request passes."""
