"""Octets of any kind as a PROXY header: never an exception, the same result at every split, bounded memory."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.protocol.proxy import SIGNATURE, ProxyHeader, ProxyReader

TEXT = st.lists(
    st.sampled_from(
        [b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"192.0.2.1 ", b"2001:db8::1 ", b"25", b" ", b"\r\n", b"\xff"]
    ),
    max_size=12,
).map(b"".join)
BINARY = st.tuples(
    st.sampled_from([b"\x20", b"\x21", b"\x22"]),
    st.sampled_from([b"\x00", b"\x11", b"\x21", b"\x31", b"\x12"]),
    st.integers(0, 300),
    st.binary(max_size=300),
).map(lambda parts: SIGNATURE + parts[0] + parts[1] + parts[2].to_bytes(2, "big") + parts[3])


@settings(max_examples=500, deadline=None)
@given(st.one_of(TEXT, BINARY, st.binary(max_size=100)), st.integers(1, 30))
def test_any_octets(octets: bytes, width: int) -> None:
    whole = ProxyReader().feed(octets)
    reader = ProxyReader()
    found: ProxyHeader | None = None
    at = 0
    while found is None and at < len(octets):
        found = reader.feed(octets[at : at + width])
        at += width
    if whole is None or found is None:
        assert whole is found is None
        return
    assert bool(whole.error) == bool(found.error)
    if not whole.error:
        assert found.source == whole.source
        assert found.destination == whole.destination
        assert found.rest + octets[at:] == whole.rest
        assert octets.endswith(whole.rest)
