"""In whose name our own reports speak, and who signs them.

RFC 9989 section 4.4: where the domain of our hostname asks receivers to refuse what nobody proves, a report has to be
proven too, or nobody hears of failures. With the null path SPF can only look at the HELO name, for which hardly anybody
publishes a record. So a report is from the nearest domain of ours above the hostname, and carries its signatures.
"""

from __future__ import annotations

from collections.abc import Callable

from staffetta.config.schema import Config
from staffetta.delivery.bounce import Author
from staffetta.intake.signing import CannotSign, SigningRoom, body_to_sign, signatures
from staffetta.mail.domain import Domain
from staffetta.mailauth.dkim.signers import Signers


def notice_author(config: Config, signers: Signers, room: Callable[[], SigningRoom | None]) -> Author | None:
    """Who writes our reports; None when no domain above the hostname signs: then the hostname does."""
    hostname = config.hostname.ascii
    above = [
        one.domain
        for one in config.domains
        if signers.signs(one.domain.ascii)
        and (hostname == one.domain.ascii or hostname.endswith(f".{one.domain.ascii}"))
    ]
    if not above:
        return None
    domain = max(above, key=lambda domain: len(domain.ascii))

    async def sign(content: bytes, now: float) -> bytes:
        return await _signatures(room(), domain, content, now)

    return Author(domain.ascii, sign)


async def _signatures(room: SigningRoom | None, domain: Domain, content: bytes, now: float) -> bytes:
    """The fields; none when the keys cannot be used: a report that waited for them could come too late to be of use,
    and the alarm about the keys is raised where they are looked after."""
    end = content.find(b"\r\n\r\n")
    if room is None or end < 0:
        return b""
    body = body_to_sign()
    body.after_header(content[end + 2 :])
    try:
        return await signatures(room, domain, content[: end + 2], body, now)
    except CannotSign:
        return b""
