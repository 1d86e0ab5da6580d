"""Hosts: which of them are this machine alone."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, and reached from it alone."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
