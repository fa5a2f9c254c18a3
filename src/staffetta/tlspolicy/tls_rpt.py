"""The TLS-RPT record: where others may send their reports of TLS that failed. RFC 8460 section 3."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_VERSION: Final = b"v=TLSRPTv1"
_URI: Final = re.compile(r"(?:mailto:[^\s,!;@]{1,256}@[^\s,!;]{1,256}|https:[^\s,!;]{1,1000})", re.IGNORECASE)
_WHITE: Final = " \t"


def tls_rpt_records(texts: Iterable[bytes]) -> tuple[bytes, ...]:
    """Those TXT records that are meant; with other than one there is none."""
    return tuple([text for text in texts if text[:10] == _VERSION and text[10:].lstrip(b" \t")[:1] in {b";", b""}])


def why_bad_record(text: bytes) -> str:
    """Why nobody will report by this record; "" when they will."""
    for field in text.decode("latin-1").split(";")[1:]:
        name, equals, value = field.partition("=")
        if name.strip(_WHITE) == "rua" and equals:
            uris = [uri.strip(_WHITE) for uri in value.split(",")]
            return "" if all(_URI.fullmatch(uri) for uri in uris) else "its rua= is not a list of mailto: and https:"
    return "it has no rua="


__all__ = ["tls_rpt_records", "why_bad_record"]
