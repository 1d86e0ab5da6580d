"""Which hosts are loopback."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable from this machine alone."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
