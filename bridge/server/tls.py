"""TLS of both sides: the certificates they show, and how a renewed one takes its place.

Which settings name the files, what listens with them, and which versions are spoken, is not said
here.
"""

import ssl
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, NoReturn

import structlog

from bridge.identity.files import Signatures, read_together, signatures, watching
from bridge.private_file import exposure
from bridge.server.tls_versions import CURRENT, Accepted

_log = structlog.get_logger("bridge.tls")

POLL_INTERVAL = 5.0
"""Seconds between two looks at the files."""

SOON = timedelta(days=14)
"""Before a certificate's end. Tools renew it earlier: if less is left, they do not any more."""


class UnusableCertificate(Exception):
    """A certificate or its key cannot be used; `str()` is one line for the operator."""


Pair = tuple[Path, Path]
"""A PEM file with a server's certificate first and its chain after it, and one with its private
key, not encrypted."""


def server_context(pairs: Sequence[Pair], accepted: Accepted = CURRENT) -> ssl.SSLContext:
    """Return the server's side of TLS (RFC 5246, RFC 8446) with HTTP/1.1 above it.

    Of several `pairs`, each with a key of another type, a client is shown the one that its ciphers
    are for. What names a client may ask for by SNI (RFC 6066, section 3) is the certificate's to
    say: one with several names serves them all, and who asks for none.

    Raises:
        UnusableCertificate: a file cannot be read or holds something else, the two of a pair do not
            belong together, others have access to a key, or two keys are of one type.
    """
    context = _listening(accepted)
    for pair in pairs:
        # Each by itself first: in company, the key of another passes for its own.
        _load(_listening(accepted), *pair)
        _load(context, *pair)
    _require_other_types(pairs)
    return context


def _listening(accepted: Accepted) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepted.apply(context)
    # Compression gives secrets away by length (RFC 9325, section 3.3), and renegotiation is work
    # that a client can ask for again and again. The order of ciphers is the server's to say.
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        status = key.stat()
        if _is_special(certificate):
            raise UnusableCertificate(f"{certificate}: it is not a regular file")
        # What a file holds tells more than its mode, which is right for a certificate.
        problem = stat.S_ISREG(status.st_mode) and _swapped(certificate, key)
        if problem := problem or exposure(key):
            raise UnusableCertificate(problem)
        # The error of what follows would not say which of the two cannot be read.
        certificate.open("rb").close()
        context.load_cert_chain(certificate, key, password=lambda: _refuse_encrypted(key))
    except ssl.SSLError as error:
        raise UnusableCertificate(_reason(error, certificate, key)) from None
    except OSError as error:
        raise UnusableCertificate(f"{error.filename or key}: {error.strerror}") from None


def _require_other_types(pairs: Sequence[Pair]) -> None:
    """OpenSSL keeps one pair a type, and would forget the one before without a word."""
    if len(pairs) == 1:
        return
    of_types: dict[str, Path] = {}
    for certificate, _ in pairs:
        if (first := leaf(certificate)) is None or first.key_type == "other":
            continue
        if (other := of_types.get(first.key_type)) is not None:
            told = f"its key is {first.key_type}, as that of {other}: one of each type can be shown"
            raise UnusableCertificate(f"{certificate}: {told}")
        of_types[first.key_type] = certificate


class Leaf(NamedTuple):
    """What matters here of a server's own certificate."""

    key_type: str
    """`RSA`, `ECDSA` or `other`."""
    is_all_rsa: bool
    """Whether its key is RSA, and that of who signed it, too."""
    begins: datetime
    ends: datetime
    """From when to when it may be used (RFC 5280, section 4.1.2.5)."""

    def problem(self, now: datetime) -> str | None:
        """Return why clients refuse it now, None if they do not."""
        if now > self.ends:
            return f"it expired on {_day(self.ends)}"
        if now < self.begins:
            return f"it is not valid before {_day(self.begins)}"
        return None

    def warning(self, now: datetime) -> str | None:
        """Return how soon it ends, None if that is not soon."""
        left = self.ends - now
        return f"it expires on {_day(self.ends)}, in {left.days} days" if left < SOON else None


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def leaf(certificate: Path) -> Leaf | None:
    """Return what is in the first certificate of a PEM file that OpenSSL has taken.

    None where cryptography, which is stricter, does not read it: then only clients can say.

    Raises:
        UnusableCertificate: the file cannot be read.
    """
    from cryptography import x509  # noqa: PLC0415 - large, and without TLS not needed
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ec import (  # noqa: PLC0415
        ECDSA,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415

    try:
        first = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        key, signed = first.public_key(), first.signature_algorithm_parameters
    except (UnsupportedAlgorithm, ValueError):
        return None
    except OSError as error:
        raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
    is_rsa, is_ecdsa = isinstance(key, RSAPublicKey), isinstance(key, EllipticCurvePublicKey)
    key_type = "RSA" if is_rsa else "ECDSA" if is_ecdsa else "other"
    is_all_rsa = is_rsa and not isinstance(signed, ECDSA)
    return Leaf(key_type, is_all_rsa, first.not_valid_before_utc, first.not_valid_after_utc)


def shows_rsa(leaves: Iterable[Leaf | None]) -> bool:
    """Tell whether clients from before elliptic curves find a certificate, as far as is known."""
    return any(each is None or each.is_all_rsa for each in leaves)


def _refuse_encrypted(key: Path) -> NoReturn:
    # Without this, OpenSSL would ask for the passphrase on the terminal and wait.
    raise UnusableCertificate(f"{key}: the private key is encrypted: decrypt it first")


def _is_special(file: Path) -> bool:
    """Tell whether a file is one that need not come to an end, as a pipe or a device."""
    mode = file.stat().st_mode
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


_CERTIFICATE, _KEY = b"CERTIFICATE-----", b"PRIVATE KEY-----"
"""What is in the first line of either (RFC 7468), however it goes on."""


def _swapped(certificate: Path, key: Path) -> str | None:
    """Return which file holds what the other should, None if neither does; one may hold both."""
    for file, wanted, other, what in (
        (key, _KEY, _CERTIFICATE, "a certificate, not a private key"),
        (certificate, _CERTIFICATE, _KEY, "a private key, not a certificate"),
    ):
        held = file.read_bytes()
        if other in held and wanted not in held:
            return f"{file}: holds {what}: are the two swapped?"
    return None


_ANOTHERS = frozenset({"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""OpenSSL's reasons where key and certificate are two pairs' own, of one type or of two."""


def _reason(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason in _ANOTHERS:
        return f"{key}: the private key is not that of {certificate}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError:
        return f"{certificate}: holds no certificate that can be used (PEM)"
    if str(error.reason).endswith(("_TOO_SMALL", "_TOO_WEAK")):
        return f"{certificate}: too weak ({error.reason})"
    return f"{key}: holds no private key that can be used (PEM)"


def both_contexts(
    pairs: Sequence[Pair], accepted: Accepted, *, serves_admins: bool
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the server's side for clients, and for administrators, if there is one for these.

    Theirs speaks what is current, and knows nothing of pairs that are too weak for that.

    Raises:
        UnusableCertificate: as `server_context` does; or all are too weak for administrators.
    """
    for_clients = server_context(pairs, accepted)
    if accepted == CURRENT or not serves_admins:
        return for_clients, for_clients
    strong = []
    for pair in pairs:
        with suppress(UnusableCertificate):
            server_context([pair])
            strong.append(pair)
    return for_clients, server_context(strong or pairs)


class CertificateReloader:
    """Pairs of files that are loaded again when they have been renewed.

    Connections that are open keep the certificate they began with; each that begins takes the
    newest pairs that were good.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        accepted: Accepted = CURRENT,
        *,
        serves_admins: bool = True,
        interval: float = POLL_INTERVAL,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Load the pairs for the first time.

        Args:
            pairs: as `server_context` takes them.
            accepted: what is spoken with clients.
            serves_admins: whether it is for the admin side, too, which speaks what is current.
            interval: seconds between two looks at the files.
            now: answers the time of day.

        Raises:
            UnusableCertificate: they cannot be used, or clients would refuse one for its dates.
        """
        self._pairs = tuple(pairs)
        self._accepted = accepted
        self._serves_admins = serves_admins
        self._interval = interval
        self._now = now
        self._not_renewed: str | None = None
        """What is wrong with the files as they are now; None when they are in force."""
        self._seen: Signatures = {}
        self._digest = b""
        """Of what the files held when they were loaded."""
        self._load()

    # Loading into a context that is in use could leave it with a new certificate and an old key, so
    # what was loaded together has contexts of its own.

    def for_clients(self) -> ssl.SSLContext:
        """Return what a connection of the legacy side begins with."""
        return self._loaded.for_clients

    def for_admins(self) -> ssl.SSLContext:
        """Return what one of the admin side does, where nothing old is spoken."""
        return self._loaded.for_admins

    def _load(self) -> bool:
        """Take the pairs as they are now, and tell whether they are other ones.

        Raises:
            UnusableCertificate: as the constructor does; the pairs before stay.
        """
        loaded, digest = read_together(self._read, self._seen, UnusableCertificate)
        now = self._now()
        for certificate, shown in loaded.leaves.items():
            if shown is not None and (problem := shown.problem(now)):
                raise UnusableCertificate(f"{certificate}: {problem}")
        changed = digest != self._digest
        self._loaded, self._digest = loaded, digest
        for certificate, shown in loaded.leaves.items():
            if shown is not None and (warning := shown.warning(now)):
                _log.warning(
                    "certificate_expires_soon", certificate=str(certificate), reason=warning
                )
        return changed

    def _read(self, seen: Signatures) -> tuple["_Loaded", bytes]:
        """Return what the files make, and the digest of what they hold."""
        files = [file for pair in self._pairs for file in pair]
        seen.update(signatures(files))
        for_clients, for_admins = both_contexts(
            self._pairs, self._accepted, serves_admins=self._serves_admins
        )
        leaves = {certificate: leaf(certificate) for certificate, _ in self._pairs}
        odd = self._accepted.warning(for_clients, shows_rsa=shows_rsa(leaves.values()))
        try:
            digest = b"".join(sha256(file.read_bytes()).digest() for file in files)
        except OSError as error:
            raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
        return _Loaded(for_clients, for_admins, leaves, odd), digest

    def _first(self, say: Callable[[Leaf, datetime], str | None]) -> str | None:
        """Return what is to be said of the certificates in force: of the first that has it."""
        now, leaves = self._now(), self._loaded.leaves
        for certificate, shown in leaves.items():
            if shown is not None and (said := say(shown, now)):
                return said if len(leaves) == 1 else f"{certificate}: {said}"
        return None

    def problem(self) -> str | None:
        """Return why clients refuse a certificate in force, None if they do not."""
        return self._first(Leaf.problem)

    @property
    def ends(self) -> Mapping[str, datetime]:
        """When the certificates in force expire, UTC, by the type of their key.

        One is missing of which only clients can say.
        """
        shown = self._loaded.leaves.values()
        return {each.key_type: each.ends for each in shown if each is not None}

    def warning(self) -> str | None:
        """Return why that may be so before long, or after the next start; None if it is not."""
        if self._not_renewed is not None:
            return f"{self._not_renewed}; the one before is in force"
        return self._first(Leaf.warning)

    def warning_of_versions(self) -> str | None:
        """Return what an operator should know of the TLS that is spoken, None if nothing."""
        return self._loaded.odd

    def reload(self) -> str:
        """Load the files again; return "renewed", "unchanged" or "broken": the old pairs stay."""
        try:
            changed = self._load()
        except UnusableCertificate as error:
            self._not_renewed = str(error)
            _log.error("certificate_not_renewed", reason=str(error), serving="the one before")
            return "broken"
        if changed or self._not_renewed:
            _log.info(
                "certificate_renewed" if changed else "certificate_good_again",
                certificate=self._names(),
            )
        self._not_renewed = None
        return "renewed" if changed else "unchanged"

    def watching(self) -> AbstractAsyncContextManager[None]:
        """Look at the files until the end of the block, and reload them when they have changed.

        A broken renewal is logged once: it is not tried again before the files change again.
        """
        return watching(
            lambda: self._seen,
            self._renew,
            lambda: _log.exception("certificate_not_looked_at", certificate=self._names()),
            self._interval,
        )

    async def _renew(self) -> None:
        self.reload()

    def _names(self) -> str:
        return ", ".join(str(certificate) for certificate, _ in self._pairs)


class _Loaded(NamedTuple):
    """What files made that were read together."""

    for_clients: ssl.SSLContext
    for_admins: ssl.SSLContext
    leaves: Mapping[Path, Leaf | None]
    odd: str | None
    """What an operator should know of the TLS that is spoken with clients."""
