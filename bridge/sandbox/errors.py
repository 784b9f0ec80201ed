"""What the sandbox's rules and store raise. Which HTTP status each becomes is said in app.py."""


class SandboxStateError(Exception):
    """The database cannot be opened, or is not a sandbox's."""


class RequestError(Exception):
    """A call that the API refuses; the text is for the caller."""


class MalformedBodyError(RequestError):
    """The body is no JSON object."""


class NotFoundError(RequestError):
    """No such invoice, message, payment or path."""


class UnprocessableError(RequestError):
    """A well-formed call that breaks a rule."""


class WrongFaultError(RequestError):
    """A fault, or a rule about faults, that makes no sense."""
