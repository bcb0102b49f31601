"""IP addresses and networks as configured, and whether a caller's address is within one."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def address(text: str) -> IPv4Address | IPv6Address:
    """Parse a caller's address; an IPv4-mapped IPv6 address gives the IPv4 one. ValueError where it is none."""
    found = ip_address(text)
    return (found.ipv4_mapped if isinstance(found, IPv6Address) else None) or found


def network(text: str) -> IPv4Network | IPv6Network:
    """Parse an address or a network; ``10.1.2.3/16`` gives ``10.1.0.0/16``, an IPv4-mapped one the IPv4 one.

    Raises
    ------
    ValueError
        With what is wrong and what is allowed.
    """
    try:
        found = ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise ValueError(f"an address or a network such as 10.1.0.0/16 ({error})") from error
    if isinstance(found, IPv6Network) and found.prefixlen >= 96 and (mapped := found.network_address.ipv4_mapped):
        return IPv4Network((mapped, found.prefixlen - 96))
    return found


def is_within(caller: str, where: str) -> bool:
    """Whether an address is within an address or network; False where either cannot be parsed."""
    try:
        calling, allowed = address(caller), network(where)
    except ValueError:
        return False
    scope = getattr(allowed.network_address, "scope_id", None)  # such as eth0 of fe80::1%eth0
    if scope is not None and scope != getattr(calling, "scope_id", None):
        return False
    return calling in allowed
