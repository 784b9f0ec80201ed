"""The control endpoint under `/sandbox/`: rules in and out, the seed, the calls that have come.

It needs no credential and meets no fault. What rules do is in faults.py and misbehaviour.py.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from bridge.sandbox.answers import json_answer
from bridge.sandbox.calls import Calls
from bridge.sandbox.errors import WrongFaultError
from bridge.sandbox.faults import FAULTS, FaultKinds, FaultRules, Rule, describe, read_rules

ROOT = "/sandbox/"


class _Seed(msgspec.Struct, forbid_unknown_fields=True):
    seed: int


class Control:
    """The calls of the control endpoint."""

    def __init__(self, rules: FaultRules, calls: Calls, kinds: FaultKinds = FAULTS) -> None:
        """Control `rules`, which are of these `kinds`, and show `calls`."""
        self._rules = rules
        self._kinds = kinds
        self._calls = calls

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the endpoint to an application's routes."""
        router.add_get(f"{ROOT}faults", self.list_rules)
        router.add_post(f"{ROOT}faults", self.add_rules)
        router.add_delete(f"{ROOT}faults", self.clear_rules)
        router.add_delete(f"{ROOT}faults/{{id:[0-9]{{1,18}}}}", self.remove_rule)
        router.add_post(f"{ROOT}seed", self.set_seed)
        router.add_get(f"{ROOT}calls", self.list_calls)
        router.add_delete(f"{ROOT}calls", self.forget_calls)

    async def list_rules(self, _: web.Request) -> web.Response:
        """List the rules in force, with their counts."""
        return json_answer({"seed": self._rules.seed, **_described(self._rules)})

    async def add_rules(self, request: web.Request) -> web.Response:
        """Add a rule or a list of rules: all of them, or none if one is wrong."""
        added = self._rules.add(read_rules(await request.read(), self._kinds))
        return json_answer(_described(added), status=201)

    async def clear_rules(self, _: web.Request) -> web.Response:
        """Remove every rule."""
        self._rules.clear()
        return web.Response(status=204)

    async def remove_rule(self, request: web.Request) -> web.Response:
        """Remove one rule."""
        self._rules.remove(int(request.match_info["id"]))
        return web.Response(status=204)

    async def set_seed(self, request: web.Request) -> web.Response:
        """Set the seed, and have the rules count from the beginning."""
        try:
            given = msgspec.json.decode(await request.read(), type=_Seed)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WrongFaultError(str(error)) from error
        self._rules.restart(given.seed)
        return json_answer(given)

    async def list_calls(self, _: web.Request) -> web.Response:
        """List the calls that have come."""
        return json_answer(self._calls.report())

    async def forget_calls(self, _: web.Request) -> web.Response:
        """Forget the calls that have come."""
        self._calls.forget()
        return web.Response(status=204)


def _described(rules: Iterable[Rule]) -> dict[str, Any]:
    return {"rules": [describe(rule) for rule in rules]}
