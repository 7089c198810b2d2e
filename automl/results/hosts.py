"""Names of hosts in requests: a server answers to its own alone.

A page of another site whose name was made to lead to this machine (DNS rebinding) asks for that name.
"""

from __future__ import annotations

import ipaddress

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def host_name(header: str) -> str | None:
    """The name in a Host header, without its port, as `normal_host` writes it; None where it is not well-formed."""
    name, port = header.strip(), ""
    if name.startswith("["):
        name, closed, port = name[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            return None
    elif name.count(":") == 1:
        name, _, port = name.partition(":")
    port = port.removeprefix(":")
    if not name or (port and not (port.isascii() and port.isdigit())) or any(c in name for c in "/@\\ ,"):
        return None
    return normal_host(name)


def normal_host(name: str) -> str:
    """A host name in lower case without the dot at its end, an address as `ipaddress` writes it."""
    name = name.strip("[]").lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_unspecified(host: str) -> bool:
    """Whether `host` stands for all addresses of the machine."""
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    name = normal_host(host)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name in LOOPBACK
