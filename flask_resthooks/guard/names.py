"""Ground: names that no public receiver has.

The addresses that a name stands for decide, at each attempt; but such a name is known for what it
is beforehand, when somebody subscribes it.
"""

from __future__ import annotations

# RFC 6761, and the name that many resolvers add to this machine's.
LOOPBACK_NAMES = ("localhost", "localdomain")

# RFC 6762, ICANN's .internal, RFC 8375, and what routers and companies use though nobody gave it to
# them.
LOCAL_NAMES = ("local", "internal", "home.arpa", "lan", "home", "corp", "intranet")

# Where clouds answer those who ask from inside.
METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
        "metadata.packet.net",
        "api.metadata.cloud.ibm.com",
        "rancher-metadata",
    }
)


def objection(name: str, *, loopback: bool, inside: bool) -> str | None:
    """Whose a name is, if it is nobody's in public; None if it may be somebody's.

    A name without a dot is one of the resolver's own search list.

    :param name: in lower case, without the root's dot.
    :param loopback: whether this machine may be called.
    :param inside: whether any network may be called that is not public: then there may be names
        for it, too.
    """
    if name in METADATA_NAMES:
        return "a cloud metadata service"
    if _ends_in(name, LOOPBACK_NAMES):
        return None if loopback else "a local network"
    if not inside and ("." not in name or _ends_in(name, LOCAL_NAMES)):
        return "a local network"
    return None


def _ends_in(name: str, suffixes: tuple[str, ...]) -> bool:
    return any(f".{name}".endswith(f".{suffix}") for suffix in suffixes)
