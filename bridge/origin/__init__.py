"""v1 at its origin: where it is, what reaches it of a call and its client of an answer, and whether
it is still there. Which calls are passed through is not decided here.
"""
