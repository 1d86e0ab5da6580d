"""Names and addresses of hosts: which are loopback, how URLs write them."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable from this machine alone."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_host(host: str) -> str:
    """A host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
