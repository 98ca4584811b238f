"""The reader of answers, without a socket: in whatever pieces an answer comes, it is the same."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from flask_resthooks.transport.http1 import MAX_CHUNK_LINE, MAX_HEADER_BYTES, NotHTTP, Response
from tests.integration.hostile_catalogue import CASES, Case

LIMIT = 1024
MOST = 200_000
"""Bytes of those answers that have no end."""

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Stage:
    """A receiver and its socket, for a player of the catalogue: what it says is written down."""

    def __init__(self) -> None:
        self.said = b""
        self.waits = 0
        self.closing: Any = self

    def read_request(self, sock: Any) -> bytes:
        return b"POST"

    def recv(self, *_: Any) -> bytes:
        return b"x"

    def sendall(self, data: bytes) -> None:
        self.said += data
        if len(self.said) > MOST:
            raise OSError("enough")

    def drip(self, sock: Any, data: bytes, interval: float) -> None:
        self.sendall(data)

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        return timeout is None or self.waits > 100

    def is_set(self) -> bool:
        return False

    def setsockopt(self, *_: Any) -> None: ...

    shutdown = setsockopt


def said(case: Case) -> bytes:
    stage: Any = Stage()
    with contextlib.suppress(OSError):
        case.serve(stage, stage)
    said: bytes = stage.said[:MOST]
    return said


PLAIN = [case for case in CASES if not case.https or case.tls == "good"]


def read(pieces: list[bytes], limit: int = LIMIT) -> tuple[Any, ...]:
    """All that somebody can see of an answer, with what its reading ended in."""
    response = Response(limit)
    failure: Exception | None = None
    try:
        for piece in pieces:
            response.feed(piece)
            assert len(response.body) <= limit + 1
        response.end()
    except (NotHTTP, OSError) as error:
        failure = error
    seen = (response.begun, response.understood, response.complete, response.done)
    if response.understood:
        seen += (response.status, response.fields, response.will_close, bytes(response.body))
    if response.complete:
        seen += (response.goes_on,)
    return (*seen, type(failure), str(failure))


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """In pieces of these sizes, over and over."""
    pieces = []
    while data:
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
    return pieces


SIZES = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 70_000)), min_size=1, max_size=8)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
@hypothesis.settings(max_examples=5)
@hypothesis.given(sizes=SIZES)
def test_an_answer_of_the_catalogue_is_the_same_in_any_pieces(case: Case, sizes: list[int]) -> None:
    data = said(case)
    # Beside the small pieces that are most of the cases, a few sizes of a socket's.
    if len(data) > 20_000:
        sizes = [max(size, 500) for size in sizes]
    assert read(cut(data, sizes)) == read([data])


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_an_answer_of_the_catalogue_is_what_the_catalogue_says(case: Case) -> None:
    response = Response(LIMIT)
    data = said(case)
    detail = ""
    try:
        if not response.feed(data) and len(data) < MOST:
            response.end()
    except (NotHTTP, OSError) as error:
        detail = str(error)
    assert (response.status if response.understood else None) == case.status
    if case.response is not None:
        kept = bytes(response.body[:LIMIT])
        assert kept == case.response if response.done else case.response.startswith(kept)
    if case.error == "protocol":
        assert re.fullmatch(case.detail, f"the answer is not HTTP: {detail}")
    elif case.error is None:
        assert detail == ""


LINES = st.sampled_from(
    [
        *(HEAD, b"HTTP/1.0 200 OK\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        *(b"HTTP/1.1 304\n\n", b"HTTP/1.1 101 Switching\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-encoding: gzip\n", b"a: b\r\n"),
        *(b"Content-Length: 2\r\n", b"Content-Length: 2, 2\n", b"Content-Length: ", b": x\n"),
        *(b"Connection: keep-alive\r\n", b"Connection: close\n", b" folded\r\n", b"\xa0: x\r\n"),
    ]
)
CRUMBS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b" ", b":", b";", b"-", b"0", b"1", b"5", b"a", b"ff", b"\0"),
        *(b"\xff", b"0\r\n\r\n", b"2\r\nhi\r\n", b"1\nx\n", b"0\n\n", b"0\r\n", b"hey"),
        *(b"3;" + b"e" * (MAX_CHUNK_LINE - 4) + b"\r\n", b"3;" + b"e" * MAX_CHUNK_LINE + b"\n"),
        *(b"a: " + b"z" * (MAX_HEADER_BYTES - 5) + b"\r\n", b"a: b\r\n" * 11_000),
    ]
)


@hypothesis.settings(max_examples=200)
@hypothesis.given(
    st.lists(LINES, max_size=6),
    st.sampled_from([b"", b"\n", b"\r\n"]),
    st.lists(CRUMBS, max_size=10),
    SIZES,
    st.integers(0, 5),
)
def test_any_answer_is_the_same_in_any_pieces(
    lines: list[bytes], empty: bytes, crumbs: list[bytes], sizes: list[int], limit: int
) -> None:
    data = b"".join(lines) + empty + b"".join(crumbs)
    if len(data) > 20_000:
        sizes = [max(size, 500) for size in sizes]
    whole = read([data], limit)
    assert read(cut(data, sizes), limit) == whole
    if len(data) <= 20_000:
        assert read(cut(data, [1]), limit) == whole


# The bounds, to the byte


def fed(data: bytes) -> Response:
    response = Response(LIMIT)
    response.feed(data)
    return response


def test_a_head_may_be_as_long_as_it_may_be() -> None:
    rest = MAX_HEADER_BYTES - len(HEAD) - len(b"Content-Length: 2\r\na: \r\n\r\n")
    fits = HEAD + b"Content-Length: 2\r\na: " + b"x" * rest + b"\r\n\r\n"
    assert len(fits) == MAX_HEADER_BYTES
    assert fed(fits + b"ok").complete
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    for longer in (fits.replace(b"a: ", b"a: x"), interim + fits):
        with pytest.raises(NotHTTP, match="its head is too long"):
            fed(longer)


def test_a_chunk_may_begin_with_as_long_a_line_as_it_may() -> None:
    line = b"2;" + b"x" * (MAX_CHUNK_LINE - 4) + b"\r\n"
    assert fed(CHUNKED + line + b"ok\r\n0\r\n\r\n").complete
    with pytest.raises(NotHTTP, match="the first line of a chunk is too long"):
        fed(CHUNKED + b"2;x" + line[2:])
    # Before its end has come.
    with pytest.raises(NotHTTP, match="the first line of a chunk is too long"):
        fed(CHUNKED + b"2;" + b"x" * (MAX_CHUNK_LINE - 1))
    assert not fed(CHUNKED + b"2;" + b"x" * (MAX_CHUNK_LINE - 2)).done


def test_trailers_may_be_as_long_as_they_may() -> None:
    trailers = b"a: " + b"x" * (MAX_HEADER_BYTES - 7) + b"\r\n\r\n"
    assert fed(CHUNKED + b"0\r\n" + trailers).complete
    with pytest.raises(NotHTTP, match="what comes after its body is too long"):
        fed(CHUNKED + b"0\r\n" + b"a: x" + trailers[3:])


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1, 10 * LIMIT])
@pytest.mark.parametrize("head", [HEAD + b"Content-Length: %d\r\n\r\n", HEAD + b"\r\n"])
def test_one_byte_more_than_the_limit_is_kept_of_a_body(size: int, head: bytes) -> None:
    response = Response(LIMIT)
    for piece in cut((head % size if b"%" in head else head) + b"x" * size, [700]):
        response.feed(piece)
    response.end()
    assert response.done
    assert response.complete is (size <= LIMIT)
    assert len(response.body) == min(size, LIMIT + 1)


# The end


@pytest.mark.parametrize(
    "data, error, complete",
    [
        (HEAD + b"\r\nhi", None, True),
        (HEAD + b"\r\nhi", ConnectionResetError("reset"), False),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", None, True),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", ConnectionResetError("reset"), True),
        (CHUNKED + b"2\r\nhi\r\n0\r\na: b", None, True),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", TimeoutError("late"), False),
        (CHUNKED + b"2\r\nhi\r\n", None, False),
        (HEAD + b"Content-Length: 3\r\n\r\nhi", None, False),
        (HEAD, None, False),
        (b"", None, False),
    ],
)
def test_what_the_end_of_the_connection_means(
    data: bytes, error: OSError | None, complete: bool
) -> None:
    response = fed(data)
    if complete:
        response.end(error)
        assert (response.complete, response.will_close, response.body) == (True, True, b"hi")
        return
    with pytest.raises(OSError) as raised:
        response.end(error)
    assert raised.value is error or str(raised.value).startswith("the connection was closed ")
    assert not response.complete
