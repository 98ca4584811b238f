"""A plugin of pytest: a test that logs a secret, or prints one, fails.

Looked at are, of every test: all log records of this process, formatted and with their tracebacks,
whatever their logger; and what pytest has captured of stdout and stderr, that of forked workers and
of subprocesses included. (A warning is an error here.) What a secret is, is told by its form, or by
having been used as one: all that the package seals, signs with or sends in a header is noted.

It costs one regular expression on what a test has logged, if it has logged anything.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_resthooks import intents, own_headers, signing, vault

FORMS = re.compile(
    # Secrets of subscriptions.
    r"wh(?:sec|sk)_[A-Za-z0-9+/]{32}"
    # Fernet's keys, and the secrets of handshakes: 32 bytes in URL-safe base64.
    r"|(?<![A-Za-z0-9_+/-])(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])(?=[A-Za-z_-]*[0-9])"
    r"[A-Za-z0-9_-]{43}=?(?![A-Za-z0-9_+/=-])"
    # Sealed ones: nobody can open them, but they are nothing for a log either.
    r"|fernet:[0-9a-f]{8}:"
    # Passwords in URLs; "…" is how they are shown.
    r"|[a-z][a-z0-9+]*://[^\s/@:]*:(?!…@)[^\s/@]+@"
)

SHORTEST = 8
"""Characters of a value that is looked for: shorter ones are in many a text by chance."""

MOST = 2000
"""Values of a test that are remembered, the latest ones. At its end they are forgotten: what one
test sends in a header, `event_id`, is an ordinary word to the next."""


class Secrets:
    """What was used as a secret in this process."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}

    def note(self, value: Any) -> None:
        if isinstance(value, str) and len(value) >= SHORTEST:
            self._values[value] = self._values.pop(value, None)
            if len(self._values) > MOST:
                del self._values[next(iter(self._values))]

    def forget(self) -> None:
        self._values.clear()

    def found_in(self, text: str) -> str | None:
        """A secret that stands in a text, shortened; None if there is none."""
        match = FORMS.search(text)
        found = match[0] if match else next((it for it in self._values if it in text), None)
        return None if found is None else f"{found[:12]}…"

    def watch(self) -> Iterator[None]:
        """Note what passes through the package's doors, until the generator is closed."""
        undo: list[Callable[[], None]] = []

        def wrap(owner: Any, name: str, seen: Callable[..., Any]) -> None:
            original = getattr(owner, name)

            @functools.wraps(original)
            def watched(*arguments: Any, **options: Any) -> Any:
                result = original(*arguments, **options)
                for value in seen(result, *arguments):
                    self.note(value)
                return result

            setattr(owner, name, watched)
            undo.append(lambda: setattr(owner, name, original))

        wrap(own_headers, "dump", lambda made, headers: headers.values())
        wrap(own_headers, "load", lambda headers, text: headers.values())
        wrap(intents, "new_secret", lambda made: [made])
        wrap(signing, "_decoded", lambda made, secret, prefix: [secret])
        wrap(vault, "_marked", lambda made, keys: keys)
        yield
        for act in reversed(undo):
            act()


class Plugin(logging.Handler):
    """Hooks of pytest, and the handler that all records come to."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self._secrets = Secrets()
        self._watch = self._secrets.watch()
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._said.append(self.format(record))
        except Exception:  # its arguments do not fit: pytest's own handler fails the test
            self._said.append(repr(record.args))

    def pytest_sessionstart(self) -> None:
        next(self._watch)
        logging.getLogger().addHandler(self)
        logging.getLogger("flask_resthooks").setLevel(logging.DEBUG)

    def pytest_sessionfinish(self) -> None:
        logging.getLogger().removeHandler(self)
        next(self._watch, None)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Iterator[None]:
        outcome: Any = yield
        report: pytest.TestReport = outcome.get_result()
        if report.when != "teardown":
            return
        said, self._said = self._said, []
        said += [text for name, text in report.sections if "log" not in name]
        found = self._secrets.found_in("\n".join(said)) if said else None
        self._secrets.forget()
        if found is not None and report.passed:
            report.outcome = "failed"
            report.longrepr = f"a secret was logged, or written to stderr: {found}"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Plugin(), "resthooks-log-guard")
