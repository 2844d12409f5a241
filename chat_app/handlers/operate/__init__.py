"""What the operator page shows and does, one module a tab.

Invariant: every public method first checks that the request is the operator's. A hidden button is
no protection, because each event function is a public endpoint. The audit log says who did it: the
operator, or the owner of a key with that role. Whether a request is an operator's is decided in
`chat_app.api.operator_door`.
"""
