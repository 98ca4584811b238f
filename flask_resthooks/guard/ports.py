"""Ground: the ports that may be called.

A POST is a few lines of text, and much of the text is the subscriber's: a server of another
protocol that reads lines may take some of them for commands, and the control interfaces of clusters
and databases take a POST for what it is. So a receiver has its scheme's own port, or one from 1024
on that nothing of the kind is known to listen at. There is no setting that opens another: the
networks that an operator lets in are where these servers are.
"""

from __future__ import annotations

DEFAULT = {"http": 80, "https": 443}

FIRST_FREE = 1024
"""Below are the ports of the system's own services: mail, remote shells, file servers."""

# From FIRST_FREE on: who is known to listen there. None of these ports is in the range that Linux
# gives to outgoing connections (32768 to 60999).
_LISTENERS: dict[str, tuple[int, ...]] = {
    # The WHATWG's Fetch standard, section "Port blocking": what no browser calls.
    "H.323": (1719, 1720),
    "PPTP": (1723,),
    "NFS": (2049, 4045),
    "Apple SASL": (3659,),
    "ManageSieve": (4190,),
    "SIP": (5060, 5061),
    "X11": (6000,),
    "SANE": (6566,),
    "IRC": (6665, 6666, 6667, 6668, 6669, 6679, 6697),
    "Amanda": (10080,),
    # Databases and caches, many of which ask nobody who they are.
    "SQL Server": (1433, 1434),
    "Oracle": (1521,),
    "MySQL": (3306,),
    "PostgreSQL": (5432,),
    "CouchDB": (5984, 6984),
    "Redis": (6379, 6380),
    "InfluxDB": (8086,),
    "Solr": (8983,),
    "Cassandra": (9042, 9160),
    "Elasticsearch": (9200, 9300),
    "memcached": (11211,),
    "MongoDB": (27017, 27018, 27019),
    # Queues and brokers, some of which read line by line.
    "MQTT": (1883,),
    "ZooKeeper": (2181,),
    "Erlang": (4369,),
    "AMQP": (5672,),
    "Kafka": (9092,),
    "beanstalkd": (11300,),
    "STOMP": (61613,),
    "ActiveMQ": (61616,),
    # What runs programs, or hands out secrets, for those who can reach it.
    "Java RMI": (1099,),
    "Docker": (2375, 2376, 2377, 4243),
    "etcd": (2379, 2380),
    "Remote Desktop": (3389,),
    "Selenium": (4444,),
    "Nomad": (4646, 4647, 4648),
    "Asterisk": (5038,),
    "Android's debug bridge": (5555,),
    "VNC": (5900,),
    "WinRM": (5985, 5986),
    "Kubernetes": (6443, 10250, 10255, 10257, 10259),
    "AJP": (8009,),
    "Vault": (8200,),
    "Consul": (8500, 8501),
    "Chrome's debugger": (9222,),
    "Spark": (6066,),
    "ClickHouse": (8123,),
    "Ray": (8265,),
    "Zabbix": (10050, 10051),
}

DANGEROUS = {port: name for name, ports in _LISTENERS.items() for port in ports}


def objection(scheme: str, port: int) -> str | None:
    """Why a port is refused; None if it is not.

    The other scheme's port is refused as well: nobody listens there who speaks this one.
    """
    own = DEFAULT[scheme]
    if port == own:
        return None
    if not FIRST_FREE <= port <= 65535:
        return f"the port {port} is refused: with {scheme}, {own} and 1024 to 65535 are allowed"
    if port in DANGEROUS:
        return f"the port {port} is refused: it is that of {DANGEROUS[port]}"
    return None
