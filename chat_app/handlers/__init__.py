"""What the pages' events do, without Gradio: plain arguments in, plain views out.

Invariant: every wired function is a public HTTP endpoint, whatever the page shows, so each handler
takes the rater from the signed cookie alone and leaves rights and limits to the service's checks.
Errors become a sentence in the view; what a person typed comes back with it.
"""
