"""A widespread Ruby client's way of trying again, as its `hardy_client.rb` has it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.legacy import Answer, LegacyClient

STATUS = "/account/rate_limit_status"
JSON = "application/json"


class GivenUp(Exception):
    """The client has raised what it was answered."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass
class HardyClient:
    """Takes 200 and 201 for success, and counts its calls and the seconds that it sleeps.

    It sleeps after a 503. After anything that it does not know (and 502) it asks how near it is to
    the limit, by the same way of trying again, and makes the call again, `retries` times.
    """

    client: LegacyClient
    sleep: Callable[[float], None]
    accept: str = "application/xml"
    retries: int = 5
    calls: int = 0
    slept: list[int] = field(default_factory=list)
    most: int = 100
    """Calls after which a test has seen enough."""

    async def get(self, path: str) -> Answer:
        """GET `path`.

        Raises:
            GivenUp: with the answer that the client did not try again after.
        """
        tried = 0
        while True:
            self.calls += 1
            assert self.calls < self.most, "the client does not come to an end"
            answer = await self.client.get(path, headers={"Accept": self.accept})
            match answer.status:
                case 200 | 201:
                    return answer
                case 400 | 401 | 404 | 500:
                    raise GivenUp(answer)
                case 503:
                    self._sleep(int(answer.headers["Retry-After"]))
                    continue
            if tried == self.retries:
                raise GivenUp(answer)
            tried += 1
            if _is_over_limit(await self.get(STATUS)):
                self._sleep(16)

    def _sleep(self, seconds: int) -> None:
        self.slept.append(seconds)
        self.sleep(seconds)


def _is_over_limit(status: Answer) -> bool:
    if status.headers["Content-Type"].startswith(JSON):
        told = status.json
        return bool(told["count"] > told["max_calls"])
    (count,), (most,) = status.texts("count"), status.texts("max-calls")
    return int(count) > int(most)
