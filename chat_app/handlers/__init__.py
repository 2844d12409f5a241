"""What the pages' events do, without Gradio: plain arguments in, plain views out.

Invariant: every event function is a public HTTP endpoint, whatever the page shows. So each handler
takes the rater from the signed cookie alone, and the service checks rights and limits. An error
becomes a sentence in the view, together with the text that the person typed.
"""
