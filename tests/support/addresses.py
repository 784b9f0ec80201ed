"""Judges of addresses that are not the bridge's own."""

from unittest.mock import patch

import email_validator


def is_valid(address: str) -> bool:
    """Ask email-validator itself, and leave special-use domains to v2."""
    try:
        with patch.object(email_validator, "SPECIAL_USE_DOMAIN_NAMES", []):
            email_validator.validate_email(
                address,
                allow_domain_literal=True,
                allow_quoted_local=True,
                check_deliverability=False,
                globally_deliverable=False,
                strict=True,
                test_environment=True,
            )
    except email_validator.EmailNotValidError:
        return False
    return True


def is_mailable(address: str) -> bool:
    """Tell whether an address is valid, or would be with no dots and less before the `@`."""
    local, at, domain = address.rpartition("@")
    ordinary = "".join(character for character in local if character != ".")[:64]
    return is_valid(address) or (len(address) <= 254 and is_valid(ordinary + at + domain))
