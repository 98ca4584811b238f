"""Who is compared, what each one needs, and how each one's workers are started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Worker:
    """A way to run a peer.

    :param commands: its processes; a first word without a slash is found in the environment's
        `bin`. None: the process that saves delivers, too.
    :param options: for the app, as JSON (`PEER_OPTIONS`).
    :param records: how many are saved for one figure: what is faster is given more to do.
    """

    label: str
    commands: tuple[tuple[str, ...], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    records: int = 300


@dataclass(frozen=True, eq=False)
class Peer:
    """
    :param app: the script in `apps/` that acts.
    :param packages: what pip is asked for; none: the environment that compares.
    :param python: the oldest that it runs on.
    :param quick: options that have an abandoned delivery taken up again soon.
    :param guarded: options under which it refuses private addresses, if it can.
    """

    name: str
    app: str
    packages: tuple[str, ...]
    workers: tuple[Worker, ...]
    python: tuple[int, int] = (3, 11)
    quick: dict[str, Any] = field(default_factory=dict)
    guarded: dict[str, Any] | None = None

    @property
    def celery(self) -> bool:
        return self.workers[0].commands == CELERY_WORKERS[0].commands


def celery(*arguments: str) -> tuple[str, ...]:
    return ("celery", "-A", "shop.celery_app", "worker", "--loglevel", "warning", *arguments)


# A process per CPU or a few threads: neither is the faster one with every peer.
CELERY_WORKERS = (
    Worker("a Celery worker, its default pool", (celery(),)),
    Worker("a Celery worker, `--pool threads -c 16`", (celery("--pool", "threads", "-c", "16"),)),
)
SOON = {"visibility_timeout": 10}  # seconds; Celery's own default is an hour
RELAY = ("python", "shop_app.py", "relay")
OURS = ("flask", "--app", "ours", "resthooks", "worker")
OURS_SOON = {"RESTHOOKS_TIMEOUT": 3, "RESTHOOKS_LEASE": 14, "RESTHOOKS_SWEEP_INTERVAL": 5}

PEERS = (
    Peer(
        "flask_resthooks",
        "ours.py",
        (),
        (
            Worker(
                "`flask resthooks worker`, transport `requests`",
                (OURS,),
                {"RESTHOOKS_TRANSPORT": "requests"},
                records=2000,
            ),
            Worker(
                "`flask resthooks worker`, transport `asyncio`",
                (OURS,),
                {"RESTHOOKS_TRANSPORT": "asyncio"},
                records=2000,
            ),
        ),
        python=(3, 10),
        quick=OURS_SOON,
        guarded={"RESTHOOKS_ALLOWED_NETWORKS": []},
    ),
    Peer(
        "django-webhook",
        "shop_app.py",
        ("django-webhook", "celery[redis]"),
        CELERY_WORKERS,
        quick=SOON,
    ),
    Peer(
        "django-webhook2",
        "shop_app.py",
        ("django-webhook2", "celery[redis]"),
        CELERY_WORKERS,
        quick=SOON,
    ),
    Peer(
        "django-webhook-subscriber",
        "shop_app.py",
        ("django-webhook-subscriber", "celery[redis]"),
        CELERY_WORKERS,
        quick=SOON,
    ),
    Peer(
        "django-outbound-webhooks",
        "shop_app.py",
        ("django-outbound-webhooks", "celery[redis]"),
        (
            Worker("its relay", (RELAY,), records=100),
            Worker(
                "its relay, and a Celery worker, `--pool threads -c 16`",
                (RELAY, celery("--pool", "threads", "-c", "16")),
                {"tasks": True},
                records=100,
            ),
        ),
        quick={"lease": 14, "timeout": 3.0},
        guarded={"allow_private": False},
    ),
    Peer(
        "django-signal-webhooks",
        "shop_app.py",
        ("django-signal-webhooks",),
        (Worker("a thread per save, in the app"),),
    ),
    Peer("drf-hooks", "shop_app.py", ("drf-hooks",), (Worker("3 threads in the app"),)),
    Peer(
        "flask-integration",
        "flask_integration_app.py",
        ("flask-integration",),
        (
            Worker("4 threads in the app, its default"),
            Worker("16 threads in the app", options={"workers": 16}),
        ),
        python=(3, 12),
    ),
)
