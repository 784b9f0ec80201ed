"""Who answers a call, v1 or the bridge, and whether the other one is asked as well.

How either answers is written elsewhere.
"""

from bridge.identity.callers import Identification
from bridge.record.log.events import ALL
from bridge.resources.routes import Match
from bridge.server.call import Call
from bridge.server.negotiation import in_format, list_field
from bridge.server.passing import Passing
from bridge.server.records import Recorder
from bridge.server.shadow.asked import Asked, Look
from bridge.server.shadow.running import Shadow
from bridge.settings import Settings
from bridge.side import Side
from bridge.v1.errors import LegacyCallError, NotAcceptable


class Deciding:
    """Decides between v1 and the bridge, by what an operator has decided of whoever calls."""

    def __init__(
        self,
        settings: Settings,
        passing: Passing,
        shadow: Shadow | None,
        identification: Identification,
        recorder: Recorder,
    ) -> None:
        """Let `passing` have what is v1's; None for `shadow`: nothing is compared."""
        self.passing = passing
        self._shadow = shadow
        self._identification = identification
        self._recorder = recorder
        self.go_by(settings)

    def go_by(self, settings: Settings) -> None:
        """Take these settings for what begins from now on."""
        self._proxies = settings.trusted_proxies

    def is_v1s(self, call: Call, match: Match | LegacyCallError) -> bool:
        """Decide who answers a call, and note who makes it: nobody has been judged yet."""
        request = call.request
        if (
            not request.rel_url.raw_path.startswith("/")
            or request.method == "TRACE"
            or (request.method == "OPTIONS" and "Max-Forwards" in request.headers)
        ):
            # What is asked of whoever is called, or on the way (RFC 9110, sections 7.6.2, 9.3.7);
            # TRACE would show credentials (section 9.3.8).
            return False
        policies = self.passing.policies
        # Where it does not matter who calls, that is left to whoever answers.
        policy = policies.of(ALL if policies.are_alike else self._integration(call))
        is_served = _is_served(match, list_field(request.headers, "Accept"))
        call.is_v1s = self.passing.takes_all or policy.answered_by is Side.V1 or not is_served
        if call.is_v1s:
            if policies.are_alike:
                self._note_who(call)
            self.passing.admit(call)
        if policy.shadow_percent and is_served and self._shadow is not None:
            call.look = self._look(self._shadow, call, policy.shadow_percent)
        return call.is_v1s

    def _integration(self, call: Call) -> str:
        """Return whose integration a call says that it is, and note who."""
        self._note_who(call)
        return self._recorder.integration(call.record)

    def _note_who(self, call: Call) -> None:
        call.claim = claim = self._identification.claimed(call.offered(), call.subdomain)
        call.record.claims(claim.account_id, claim.login, claim.token)

    def _look(self, shadow: Shadow, call: Call, percent: int) -> Look | None:
        """Return what is to overhear the answer, if the other side is to be asked as well."""
        request = call.request
        if request.method != "GET" or not shadow.takes(percent):
            return None
        asked = Asked(
            path=request.rel_url.raw_path,
            target=request.rel_url.raw_path_qs,
            query=call.query,
            authorization=request.headers.get("Authorization"),
            accept=list_field(request.headers, "Accept"),
            subdomain=call.subdomain,
            network=call.network,
            base_uri=call.called_at(self._proxies),
            fields=self.passing.fields(call),
            secrets=call.secrets(),
        )
        return shadow.look(asked, by_v1=call.is_v1s)


def _is_served(match: Match | LegacyCallError, accept: str | None) -> bool:
    """Tell whether the bridge has an answer to it."""
    if isinstance(match, LegacyCallError):
        return False
    try:
        in_format(match, accept)
    except NotAcceptable:
        return False
    return True
