"""What an operator can be told of an installation before it serves, or beside a bridge that does.

Nothing here writes, makes a file, or keeps a lock. Each module has some of the checks; how they are
shown is the command's business.
"""
