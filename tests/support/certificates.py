"""Certificates of a test: in files, as an operator puts them in place."""

from pathlib import Path

import trustme


def put_in_place(issued: trustme.LeafCert, folder: Path) -> tuple[Path, Path]:
    """Write a certificate with its chain, and its key, which is closed to others; return both."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    key.touch(0o600)
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key
