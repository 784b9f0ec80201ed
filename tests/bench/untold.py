"""`harvest-bridge` that tells less of its calls than any setting can: nobody, or the log line only.

It is what everything else is measured against. The first argument says which: `nobody`, `line`.
"""

import sys
from typing import Any

from bridge.cli import main
from bridge.server import service
from bridge.server.records import Recorder


class _Untold(Recorder):
    def ended(self, *_record: Any, **_more: Any) -> None:
        pass

    ended_among_others = ended


class _Line(Recorder):
    def __init__(self, sinks: Any, *parts: Any, **more: Any) -> None:
        super().__init__(
            [sink for sink in sinks if sink.__module__ == "bridge.server.logs"], *parts, **more
        )


if __name__ == "__main__":
    # The service makes what it finds under that name.
    service.Recorder = {"nobody": _Untold, "line": _Line}[sys.argv.pop(1)]  # type: ignore[assignment, attr-defined]
    main()
