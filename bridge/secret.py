"""A value that must not be printed. Who owns which secret is not known here."""


class Secret:
    """A password or token: shows itself only to whoever calls `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, to be handed on and not kept."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"
