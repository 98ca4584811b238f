"""Makes `reference/settings.md` from the code; with `--check`, says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from flask_resthooks.settings import describe

PAGE = Path(__file__).parent / "reference" / "settings.md"

HEAD = """\
# Settings

<!-- Made by docs/make_settings.py from flask_resthooks/settings.py: do not edit. -->

Keys of `app.config`, read once, by `init_app`. One that is unknown or has a bad value stops it,
with an error that names it and says what is allowed. Times are in seconds. App and workers need the
same ones.

An app that calls `app.config.from_prefixed_env()` takes them from the environment as well, with
`FLASK_` before the name and the value as JSON: `FLASK_RESTHOOKS_RETRY_SCHEDULE='[0, 5, 60]'`.

| name | default | allowed | meaning |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    rows = (
        f"| `{name}` | `{default}` | {allowed} | {meaning} |\n"
        for name, default, allowed, meaning in describe()
    )
    return HEAD + "".join(rows)


def main() -> int:
    """Write the page, or compare it; the exit status."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        print(f"{PAGE.name} is out of date: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
