"""Keeps aiohttp from sending a request a second time, and tells whether it has been sent at all."""

import aiohttp


class Request(aiohttp.ClientRequest):
    """A request that knows whether it has got a connection to leave on."""

    has_left = "send" not in vars(aiohttp.ClientRequest)
    """Where nobody would tell, it may have: then nothing is taken for not sent."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Leave on this connection.

        Raises:
            ServerDisconnectedError: something has come on it unasked, while it idled: it would be
                taken for the answer to this request (RFC 9112, section 9.2).
        """
        if conn.protocol is not None and conn.protocol.should_close:
            conn.close()
            raise aiohttp.ServerDisconnectedError
        self.has_left = True
        return await super().send(conn)


class Broken(Exception):
    """The connection broke."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class OnlyOnce:
    """A call's own middleware: keeps its request, and keeps aiohttp from sending it again.

    aiohttp makes a GET or DELETE a second time when a kept-alive connection breaks, and tells
    nobody: a DELETE that was done the first time then comes back as 404. It does so after errors of
    its own only.
    """

    __slots__ = ("request",)

    def __init__(self) -> None:
        self.request: aiohttp.ClientRequest | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send it.

        Raises:
            Broken: the connection broke.
        """
        self.request = request
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise Broken(error) from None

    @property
    def has_left(self) -> bool:
        """Whether its request has got a connection to leave on."""
        return isinstance(self.request, Request) and self.request.has_left
