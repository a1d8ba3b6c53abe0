"""Under which address others in the network reach this machine."""

from __future__ import annotations

import ipaddress
import socket


def lan_address(host: str) -> str | None:
    """``host`` as a phone would have to type it; None where only this machine is served, or there is no network."""
    if host == "localhost" or (given := ipaddress.ip_address(host)).is_loopback:
        return None
    if not given.is_unspecified:
        return f"[{host}]" if given.version == 6 else host
    # Nothing is sent: of a datagram socket, connecting only chooses the interface that the way there begins at.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        try:
            found.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(found.getsockname()[0])
