"""How a URL is read: what is normalised, what is refused, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_resthooks.errors import AddressRefused
from flask_resthooks.guard import Guard, Target

GUARD = Guard()
HTTP = Guard(require_https=False)

PUBLIC_URLS = {
    "https://example.com": Target("https://example.com/", "https", "example.com", 443),
    "HTTPS://Example.COM./a?b=c#d": Target(
        "https://example.com/a?b=c", "https", "example.com", 443
    ),
    "https://example.com:8443?x": Target(
        "https://example.com:8443/?x", "https", "example.com", 8443
    ),
    "https://example.com:443/": Target("https://example.com/", "https", "example.com", 443),
    "https://example.com:/": Target("https://example.com/", "https", "example.com", 443),
    "https://bücher.example/ü?q=ä%20": Target(
        "https://xn--bcher-kva.example/%C3%BC?q=%C3%A4%20", "https", "xn--bcher-kva.example", 443
    ),
    "https://8.8.8.8/": Target("https://8.8.8.8/", "https", "8.8.8.8", 443),
    "https://8\u30028.8\uff618/": Target("https://8.8.8.8/", "https", "8.8.8.8", 443),
    "https://134744072/": Target("https://8.8.8.8/", "https", "8.8.8.8", 443),
    "https://010.0x8.010.8/": Target("https://8.8.8.8/", "https", "8.8.8.8", 443),
    "https://1.1.65535/": Target("https://1.1.255.255/", "https", "1.1.255.255", 443),
    "https://\u0130.example/": Target(
        "https://xn--i-9bb.example/", "https", "xn--i-9bb.example", 443
    ),
    "https://xn--bcher-kva.example//": Target(
        "https://xn--bcher-kva.example//", "https", "xn--bcher-kva.example", 443
    ),
    "https://example.com/\u200d%zz!$&'()*+,;=:@[]~\"<>^`{|}?/?": Target(
        "https://example.com/%E2%80%8D%zz!$&'()*+,;=:@[]~%22%3C%3E%5E%60%7B%7C%7D?/?",
        "https",
        "example.com",
        443,
    ),
    "https://0x08.8.2056/": Target("https://8.8.8.8/", "https", "8.8.8.8", 443),
    "https://[2606:4700:0::1111]:8099/": Target(
        "https://[2606:4700::1111]:8099/", "https", "2606:4700::1111", 8099
    ),
    "https://my_host.example.com/a@b": Target(
        "https://my_host.example.com/a@b", "https", "my_host.example.com", 443
    ),
}


@pytest.mark.parametrize("url", PUBLIC_URLS)
def test_a_public_url_is_normalised(url: str) -> None:
    target = GUARD.check_url(url)
    assert target == PUBLIC_URLS[url]
    assert GUARD.check_url(target.url) == target
    assert target.url == f"{target.scheme}://{target.authority}{target.path}"


NO_URL = "this is no absolute URL: it must look like https://host/path"
NO_HOST = (
    "{} is no host: a name, an address or an IPv6 address in brackets is allowed, and a port of "
    "digits"
)
NO_NAME = (
    "{} is no host name: labels of at most 63 letters, digits and hyphens, separated by dots, are "
    "allowed"
)
NO_IDNA = "{} is no host name: only names that IDNA can write in ASCII are allowed"
EMPTY = "the URL has no host: a name or an address is needed"
AMBIGUOUS = (
    "the host {} holds a letter that standards read differently: only its ASCII form (xn--…) is "
    "allowed"
)
USER = "the URL carries a user name or password: only host and port are allowed before the path"
ENCODE = (
    "the URL contains {}: whitespace, control characters and backslashes must be percent-encoded"
)
ENCODED = "the host {} is percent-encoded: only plain names and addresses are allowed"
PORT = "the port {} is refused: with https, 443 and 1024 to 65535 are allowed"
SCHEME = "the scheme {} is refused: only https is allowed"
NO_V4 = "{} ends in a number but is no IPv4 address"

# The very words, for they are what an integrator is told.
BAD_URLS = {
    "": NO_URL,
    "example.com": NO_URL,
    "//example.com": NO_URL,
    "/path": NO_URL,
    "https:example.com": NO_URL,
    "://example.com": NO_URL,
    "1https://example.com": NO_URL,
    "https:///path": EMPTY,
    "https://": EMPTY,
    "https://:443/": EMPTY,
    "https://./": EMPTY,
    "https://..": NO_NAME.format("'.'"),
    "https://a..b/": NO_NAME.format("'a..b'"),
    "https://-a.example/": NO_NAME.format("'-a.example'"),
    "https://a-.example/": NO_NAME.format("'a-.example'"),
    "https://example.com:0/": PORT.format(0),
    "https://example.com:65536/": PORT.format(65536),
    "https://example.com:999999/": PORT.format(999999),
    "https://example.com:9999999/": NO_HOST.format("'example.com:9999999'"),
    "https://example.com:-1/": NO_HOST.format("'example.com:-1'"),
    "https://example.com:8\u0660/": NO_HOST.format("'example.com:8\u0660'"),
    "https://example.com:80:80/": NO_HOST.format("'example.com:80:80'"),
    "https://user@example.com/": USER,
    "https://user:pass@example.com/": USER,
    "https://example.com@127.0.0.1/": USER,
    "https://example.com\\@127.0.0.1/": ENCODE.format(r"'\\'"),
    "https://example.com /": ENCODE.format("' '"),
    " https://example.com/": ENCODE.format("' '"),
    "https://example.com/\r\nX: y": ENCODE.format(r"'\r'"),
    "https://example.com/\x00": ENCODE.format(r"'\x00'"),
    "https://example.com/\x7f": ENCODE.format(r"'\x7f'"),
    "https://exa\tmple.com/": ENCODE.format(r"'\t'"),
    "https://exam\u00adple.com/": ENCODE.format(r"'\xad'"),
    "https://example.com/\u2028": ENCODE.format(r"'\u2028'"),
    "https://example.com/\u3000": ENCODE.format(r"'\u3000'"),
    "https://example.com/\u0378": ENCODE.format(r"'\u0378'"),
    "https://example.com/\ue000": ENCODE.format(r"'\ue000'"),
    "https://example.com/\ud800": ENCODE.format(r"'\ud800'"),
    "https://[::1/": NO_HOST.format("'[::1'"),
    "https://::1/": NO_HOST.format("'::1'"),
    "https://[::1]a/": NO_HOST.format("'[::1]a'"),
    "https://[127.0.0.1]/": "[127.0.0.1] is no IPv6 address",
    "https://[v1.a]/": "[v1.a] is no IPv6 address",
    "https://[]/": "[] is no IPv6 address",
    "https://[fe80::1%eth0]/": "[fe80::1%eth0] names a zone of this machine",
    "https://%61.example.com/": ENCODED.format("'%61.example.com'"),
    "https://1.2.3.4.5/": NO_V4.format("'1.2.3.4.5'"),
    "https://256.256.256.256/": NO_V4.format("'256.256.256.256'"),
    "https://256.1.1.1/": NO_V4.format("'256.1.1.1'"),
    "https://1.1.1.256/": NO_V4.format("'1.1.1.256'"),
    "https://1.1.65536/": NO_V4.format("'1.1.65536'"),
    "https://1.16777216/": NO_V4.format("'1.16777216'"),
    "https://4294967296/": NO_V4.format("'4294967296'"),
    "https://08.1.1.1/": NO_V4.format("'08.1.1.1'"),
    "https://1.2.3.4.0/": NO_V4.format("'1.2.3.4.0'"),
    "https://1_0.1/": NO_V4.format("'1_0.1'"),
    "https://example.1/": NO_V4.format("'example.1'"),
    "https://example.0x/": NO_V4.format("'example.0x'"),
    "https://a.0xff.1/": NO_V4.format("'a.0xff.1'"),
    "https://fa\u00df.de/": AMBIGUOUS.format("'fa\u00df.de'"),
    "https://\u03c2.example/": AMBIGUOUS.format("'\u03c2.example'"),
    "https://a\u200db.example/": AMBIGUOUS.format(r"'a\u200db.example'"),
    "https://a\u200cb.example/": AMBIGUOUS.format(r"'a\u200cb.example'"),
    "https://a\u2100b.example/": NO_NAME.format("'aa/cb.example'"),
    "https://\u00fc..example/": NO_IDNA.format("'\u00fc..example'"),
    "https://" + "a" * 64 + ".example/": NO_NAME.format(repr("a" * 64 + ".example")),
    "https://" + "a." * 123 + "examplee/": "the host is longer than 253 characters",
    "https://example.com/" + "a" * 8173: "the URL is longer than 8192 characters",
    "http://example.com/": SCHEME.format("'http'"),
    "ftp://example.com/": SCHEME.format("'ftp'"),
    "file:///etc/passwd": SCHEME.format("'file'"),
    "gopher://example.com/": SCHEME.format("'gopher'"),
    "JavaScript://example.com/": SCHEME.format("'javascript'"),
}


@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: ascii(url[:60]))
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused) as refusal:
        GUARD.check_url(url)
    assert refusal.value.reason == refusal.value.detail == str(refusal.value) == BAD_URLS[url]


def test_the_longest_url_and_the_longest_host_are_let_through() -> None:
    path = "a" * (8192 - len("https://example.com/"))
    assert GUARD.check_url(f"https://example.com/{path}").path == f"/{path}"
    host = "a." * 123 + "example"
    assert len(host) == 253
    assert GUARD.check_url(f"https://{host}./").host == host
    assert GUARD.check_url(f"https://{'a' * 63}.example/")


def test_other_schemes_are_refused_where_http_is_allowed() -> None:
    with pytest.raises(AddressRefused) as refusal:
        HTTP.check_url("ftp://example.com/")
    reason = "the scheme 'ftp' is refused: only https and http are allowed"
    assert str(refusal.value) == reason


def test_what_is_no_string_is_refused() -> None:
    with pytest.raises(AddressRefused) as refusal:
        GUARD.check_url(None)  # type: ignore[arg-type]
    assert str(refusal.value) == "the URL must be a string, not NoneType"


@given(
    st.one_of(st.text(), st.text().map("https://{}".format), st.text().map("http://a.{}".format))
)
@example("https://[")
@example("https://]")
@example("https://xn--/")
@example("https://xn--\u00fc/")
@example("https://\u0130.example")
def test_any_text_is_either_a_target_or_refused(text: str) -> None:
    try:
        target = HTTP.check_url(text)
    except AddressRefused:
        return
    assert target.host.isascii()
    assert target.url.isascii()
    assert HTTP.check_url(target.url) == target
    assert target.url == f"{target.scheme}://{target.authority}{target.path}"
