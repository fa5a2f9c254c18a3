"""The server's side of SMTP AUTH as the sink plays it: one known login, three mechanisms. RFC 4954, 5802.

Independent of `protocol/` on purpose. It checks proofs for real; `forget_proof` makes it a server that does not know
the password and hopes that nobody notices.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable

Ask = Callable[[bytes], Awaitable[bytes]]
"""Send a challenge, get the response; both decoded."""

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
ITERATIONS = 4096
SERVER_NONCE = b"sinknonce"


async def authenticate(words: list[bytes], ask: Ask, login: tuple[str, str], *, forget_proof: bool) -> bool:
    """True when the exchange that `AUTH words` begins proves the login."""
    mechanism = words[0].upper()
    initial = base64.b64decode(words[1]) if len(words) > 1 and words[1] != b"=" else b""
    user, password = login[0].encode(), login[1].encode()
    if mechanism == b"PLAIN":
        if len(words) == 1:
            initial = await ask(b"")
        return initial == b"\0" + user + b"\0" + password
    if mechanism == b"LOGIN":
        name = await ask(b"Username:")
        return name == user and await ask(b"Password:") == password
    return await _scram(initial, ask, password, forget_proof=forget_proof)


async def _scram(first: bytes, ask: Ask, password: bytes, *, forget_proof: bool) -> bool:
    header, bare = first[:3], first[3:]
    nonce = bare.rpartition(b",r=")[2] + SERVER_NONCE
    challenge = b"r=%b,s=%b,i=%d" % (nonce, base64.b64encode(SALT), ITERATIONS)
    final = await ask(challenge)
    without_proof, _, proof = final.rpartition(b",p=")
    if header != b"n,," or without_proof != b"c=biws,r=" + nonce:
        return False
    signed = b",".join([bare, challenge, without_proof])
    salted = hashlib.pbkdf2_hmac("sha256", password, SALT, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    mask = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    if bytes(a ^ b for a, b in zip(client_key, mask, strict=True)) != base64.b64decode(proof):
        return False
    if forget_proof:
        await ask(b"v=" + base64.b64encode(bytes(32)))
        return True
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    await ask(b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha256")))
    return True
