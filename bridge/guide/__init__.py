"""What a call of v1 is in v2, told to people: by running the real flows, and from their tables.

Nothing here serves calls, and nothing is asked of v2.
"""
