"""The translation log: what is known of every legacy call that has ended, kept to be asked later.

Nothing here serves calls, and nothing of a write's safety rests on it: that is the journal's part.
"""
