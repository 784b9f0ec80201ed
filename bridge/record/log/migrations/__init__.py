"""What makes of an empty database, or that of an older bridge, one with today's tables.

Alembic reads `env` and the revisions in `versions` by their path; a revision that was released is
never changed.
"""
