"""Receiver: reads the bytes of a request's body, and not more than some."""

from __future__ import annotations

import io

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from .errors import HookRefused

CHUNK = 65536


def read_body(limit: int) -> bytes:
    """The body as it came; the view can get it from `request`, too.

    :param limit: bytes.
    :raises HookRefused: if it is longer than that or than the app's `MAX_CONTENT_LENGTH`, and if
        it ends too early.
    """
    try:
        body = _read(limit)
    except RequestEntityTooLarge:
        raise HookRefused("the body is too long", 413) from None
    except (BadRequest, OSError):
        raise HookRefused("the body did not come to its end") from None
    if len(body) > limit:
        raise HookRefused("the body is too long", 413)
    return body


def _read(limit: int) -> bytes:
    """The body, or the beginning of one that is too long."""
    length = request.content_length
    if length is not None:
        if length > limit:
            raise RequestEntityTooLarge
        return request.get_data()
    # In chunks, which may never end. Flask 3.0 cannot limit the one request.
    chunks = []
    size = 0
    while size <= limit:
        chunk = request.stream.read(min(CHUNK, limit + 1 - size))
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    if chunks:
        request.stream = io.BytesIO(b"".join(chunks))
    return request.get_data()
