"""The journal: writes to v2 on durable record, before and after they are made.

`rules` says what each change does, `sqlite` and `postgresql` keep the rows, `keeping` is the thread
that a bridge has for them, `inspection` and `moving` are the command's.
"""

from bridge.record.journal.keeping import Journal, open_journal
from bridge.record.journal.rules import JournalError

__all__ = ["Journal", "JournalError", "open_journal"]
