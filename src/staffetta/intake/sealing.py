"""Sealing what an alias of ours sends outside, where the configuration asks for it (RFC 8617 section 5.1).

The seal is of the alias's domain, by its DKIM key. It says what we found out before the message went on, so that who
knows us can believe it although SPF does not hold any more. What cannot be sealed goes on without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from staffetta.intake.examination import Examination
from staffetta.intake.signing import CannotSign
from staffetta.intake.transaction import Transaction
from staffetta.mailauth.arc.seal import prepare_set
from staffetta.mailauth.results import Checks, Word

if TYPE_CHECKING:
    from staffetta.intake.session import Session


async def seal_fields(
    session: Session, transaction: Transaction, examination: Examination, checks: Checks, results: bytes
) -> bytes:
    """The set to put on top; b"" when nothing is sealed. `results` is our Authentication-Results field."""
    room, body, domain, scan = session.house.signing, examination.body, transaction.forwarder, transaction.scan
    # A chain that is broken, or was not looked at, is none that we could go on with.
    if room is None or body is None or domain is None or scan is None or checks.arc is None:
        return b""
    if checks.arc.word not in {Word.PASS, Word.NONE}:
        return b""
    try:
        signer = room.signers.ready(domain.ascii) or await room.load(domain.ascii)
        if signer is None:
            return b""
        unsigned = prepare_set(scan.header, results, body.hasher.finish(), signer.keys[0], session.house.clock())
        return b"" if unsigned is None else await room.sign(unsigned)
    except CannotSign:
        return b""
