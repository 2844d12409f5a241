"""The HTTP API: routes, fields of requests, errors in one shape, middleware, metrics."""
