"""The settings in force, and how new values of the file take their place while a bridge runs.

Which settings those are is `bridge.settings.RELOADED`; the parts that use them are told.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from bridge.settings import RELOADED, Settings, WrongSetting

_log = structlog.get_logger("bridge")

Take = Callable[[Settings], None]
"""Goes by these settings from now on. Must not fail: others have been told already."""


class SettingsKeeper:
    """Reads the settings again, and hands what may change to whoever goes by it."""

    def __init__(self, settings: Settings, read: Callable[[], Settings] | None) -> None:
        """Begin with `settings`; `read` gathers them again, None: they stay as they are.

        What `read` raises that is wrong with them is `WrongSetting`.
        """
        self.settings = settings
        """Those in force."""
        self._read = read
        self._takes: list[Take] = []
        self._error: str | None = None
        self._waiting: list[str] = []
        """Those that have changed, and take a restart."""

    def tell(self, *takes: Take) -> None:
        """Have these told, all in one turn of the event loop, when a setting has changed."""
        self._takes += takes

    def warning(self) -> str | None:
        """Return what the next start would do otherwise, None if nothing."""
        if self._error is not None:
            return f"{self._error}; the ones before are in force"
        if self._waiting:
            return f"changed in the file, needs a restart: {', '.join(self._waiting)}"
        return None

    async def reload(self) -> Mapping[str, object]:
        """Read them again, take what may change or nothing, and return what is to be logged.

        Of a setting that takes a restart, its name alone: its value may be a secret.
        """
        if self._read is None:
            return {}
        try:
            # In a thread: the book is looked at, and the event loop goes on.
            read = await asyncio.to_thread(self._read)
        except WrongSetting as error:
            self._error = str(error)
            _log.error("settings_broken", reason=self._error, in_force="the ones before")
            return {"settings": "broken"}
        self._error = None
        before, now = (each.model_dump(mode="json") for each in (self.settings, read))
        differing = [
            name
            for name in Settings.model_fields
            if getattr(read, name) != getattr(self.settings, name)
        ]
        taken = [name for name in differing if name in RELOADED]
        self._waiting = [name for name in differing if name not in RELOADED]
        if taken:
            update = {name: getattr(read, name) for name in taken}
            self.settings = self.settings.model_copy(update=update)
            for take in self._takes:
                take(self.settings)
        told: dict[str, object] = {"settings": "changed" if taken else "unchanged"}
        if taken:
            told["changed"] = {name: {"from": before[name], "to": now[name]} for name in taken}
        if self._waiting:
            told["needs_restart"] = self._waiting
        return told
