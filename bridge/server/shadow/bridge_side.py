"""What the bridge would answer to a GET, for nobody but the comparison.

It takes no place of clients, learns nothing for them and counts nothing against them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from bridge.comparing import Answer
from bridge.identity.callers import Identification, Way
from bridge.identity.credentials import ACCESS_TOKEN, credentials
from bridge.resources.failures import answer_to
from bridge.resources.flow import CountCalls, Step, run
from bridge.resources.routes import Router
from bridge.server.answers import CONTENT_TYPE
from bridge.server.negotiation import in_format
from bridge.server.shadow.asked import Asked, Skipped, SkipReason
from bridge.settings import Settings
from bridge.upstream.gateway import Credential, Errand, Gateway
from bridge.upstream.sharing import Worker
from bridge.upstream.spare import NoneToSpare
from bridge.v1.errors import Overloaded
from bridge.v1.notes import Notes
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.errors import OwnTokenRefused, UpstreamRefusal
from bridge.v2.wire import V2Request


class BridgeSide:
    """Answers calls as the endpoint would, with v2 calls that clients can spare."""

    def __init__(  # noqa: PLR0913 - the parts that outlive a call
        self,
        settings: Settings,
        gateway: Gateway,
        identification: Identification,
        router: Router,
        elsewhere: Executor,
        *,
        page_limit: int,
    ) -> None:
        """Answer with these parts.

        `identification` has to have a checker of passwords of its own, for what fails here must
        shut nobody out; `elsewhere` translates what is long.
        """
        self._gateway = gateway
        self._identification = identification
        self._router = router
        self._executor = elsewhere
        self._page_limit = page_limit
        self._loop = asyncio.get_running_loop()
        self.v2_calls = 0
        """Calls to v2, since the start."""
        self.go_by(settings)

    def go_by(self, settings: Settings) -> None:
        """Take these settings for what begins from now on."""
        self._settings = settings

    async def answer(self, asked: Asked, share: float) -> Answer:
        """Return what the bridge answers, whatever that is.

        Args:
            asked: the call.
            share: of the v2 calls to spare, how many are for such a one.

        Raises:
            Skipped: it cannot be said without harm to clients.
        """
        try:
            response = await self._translated(asked, share)
        except NoneToSpare:
            raise Skipped(SkipReason.BUDGET) from None
        except Overloaded:  # with passwords to look at; or some were wrong before
            raise Skipped(SkipReason.BUSY) from None
        except Exception as error:  # noqa: BLE001 - what the endpoint would make of it, too
            response = answer_to(error)
        content_type = response.headers.get("Content-Type", CONTENT_TYPE)
        return Answer(response.status, content_type, b"".join(response.body))

    async def _translated(self, asked: Asked, share: float) -> V1Response:
        match = self._router.match("GET", asked.path, Notes())
        caller = await self._identification.identify(
            credentials(asked.authorization, asked.query),
            asked.subdomain,
            asked.network,
        )
        match = in_format(match, asked.accept)
        deadline = self._loop.time() + self._settings.call_timeout
        query = {name: text for name, text in asked.query.items() if name != ACCESS_TOKEN}
        legacy = V1Request(
            path=match.call.path.format_map(match.ids),
            ids=match.ids,
            dialect=caller.dialect or self._settings.dialect or match.call.dialect,
            base_uri=asked.base_uri,
            query=match.call.read_query(query, Notes()),
            page_limit=self._page_limit,
            out_of_time=lambda: self._loop.time() >= deadline,
        )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine is run by one
        credential = Credential(caller.account_id, caller.token, vouched=caller.way is Way.BOOK)
        errand = Errand(
            credential, self._settings.call_timeout, deadline, Worker(task), asked.network
        )
        try:
            return await run(
                match.call.flow(legacy),
                partial(self._perform, errand, share),
                self._elsewhere,
                self._elsewhere,
            )
        except UpstreamRefusal as refusal:
            if refusal.status == 401 and caller.way is Way.BOOK:
                raise OwnTokenRefused("v2 refuses the token that the book has") from refusal
            raise
        finally:
            self.v2_calls += len(errand.calls)

    async def _perform(self, errand: Errand, share: float, step: Step) -> Any:  # noqa: ANN401
        if isinstance(step, CountCalls):
            return self._gateway.rate(errand.credential)
        assert isinstance(step, V2Request)  # noqa: S101 - a GET's flow has no other steps
        return await self._gateway.send_spare(step, errand, share=share)

    def _elsewhere(self, work: Callable[[], Any]) -> Awaitable[Any]:
        return self._loop.run_in_executor(self._executor, work)
