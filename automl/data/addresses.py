"""Which machines may be asked for a file: never those that hand out a cloud machine's credentials."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from automl.space import UserError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Link-local addresses apart, where clouds answer for a machine: AWS, Google, Alibaba, Oracle, Azure.
METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    )
)
METADATA_NAMES = frozenset(
    ("metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal")
)
METADATA_ENDINGS = (".metadata.google.internal", ".metadata.goog")
NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
MOST_ADDRESSES = 8  # of a name that are tried


def is_forbidden(address: str) -> bool:
    """Whether an IP address is link-local, a metadata service's, multicast or none; also inside of an IPv6 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return any(
        each in METADATA or each.is_link_local or each.is_multicast or each.is_unspecified or each.is_reserved
        for each in _meant(found)
    )


def require_allowed_host(host: str) -> None:
    """Raise UserError for a name that clouds give to their metadata service."""
    name = host.rstrip(".").lower()
    if name in METADATA_NAMES or name.endswith(METADATA_ENDINGS):
        raise UserError(f"{host[:100]} hands out a machine's credentials; data is never fetched from there")


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """A TCP connection. The address that is checked is the one connected to: a name is resolved once.

    Raises UserError where the name or one of its addresses is forbidden, OSError where nothing answers.
    """
    require_allowed_host(host)
    try:
        found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise UserError(f"{host[:100]!r} is no name of a host") from error
    for *_, place in found:
        if is_forbidden(str(place[0])):
            raise UserError(
                f"{host[:100]} is at {place[0]}, an address of the machine's own network alone (link-local, metadata "
                "or none); data is never fetched from there"
            )
    failed: OSError = OSError(f"{host[:100]} has no address")
    for family, kind, protocol, _, place in found[:MOST_ADDRESSES]:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.connect(place)
        except OSError as error:
            connection.close()
            failed = error
        else:
            return connection
    raise failed


def _meant(address: Address) -> list[Address]:
    """The address, and those of IPv4 that an IPv6 address stands for: mapped, 6to4, Teredo, NAT64, compatible."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.is_loopback:
        return [ipaddress.IPv4Address("127.0.0.1")]
    # Some reserved blocks only stand for IPv4; what counts is the address inside.
    inside = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if any(address in network for network in NAT64) or not int(address) >> 32:
        inside.append(last)
    meant: list[Address] = [each for each in inside if each is not None]
    return meant or [address]
