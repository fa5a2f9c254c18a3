"""What to do about a step of `check upstream` that failed: a pure table from what was seen to a sentence.

The sentences name keys of the configuration, because that is what the reader can change.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.reply import Reply

CLEAR_PORT: Final = 25


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What is known when a step fails. `certificate_names` are those of the certificate that was shown.

    `speaks_tls_at_once` and `greets_in_clear` are what a second look found, None when nobody looked.
    """

    stage: str
    host: str
    port: int
    reason: str
    reply: Reply | None = None
    certificate_names: tuple[str, ...] = ()
    speaks_tls_at_once: bool | None = None
    greets_in_clear: bool | None = None
    login: str = ""


def advice(seen: Seen) -> str:
    """One sentence, "" where there is nothing to add to the cause."""
    return _BY_STAGE.get(seen.stage, _of_reply)(seen)


def _of_resolve(seen: Seen) -> str:
    if "has no address" in seen.reason:
        return f"is {seen.host} spelt right in `via`?"
    return "ask the same with: staffetta lookup mx DOMAIN; the servers to ask are [dns] servers"


def _of_connect(seen: Seen) -> str:
    reason = seen.reason
    if "refused" in reason:
        return f"nothing listens on port {seen.port} there: submission is on 587 or 465, mail between servers on 25"
    if "in time" in reason:
        blocked = "; many networks block port 25 to the outside" if seen.port == CLEAR_PORT else ""
        return f"a firewall may drop port {seen.port}{blocked}: send through a smarthost on 587 or 465"
    if "unreachable" in reason:
        return "this machine has no way to that address"
    if "denied" in reason or "private" in reason or "loopback" in reason or "documentation" in reason:
        return "name the network in [outbound] allow if mail is meant to go there"
    return ""


def _of_greeting(seen: Seen) -> str:
    if seen.speaks_tls_at_once:
        return f'port {seen.port} speaks TLS from the first octet: set tls = "implicit"'
    if seen.reply is not None and seen.reply.code in {421, 554}:
        return "the server does not want connections from this address: ask its operator, or see staffetta check ip"
    return ""


def _of_tls(seen: Seen) -> str:
    if seen.greets_in_clear:
        return f'port {seen.port} begins in clear and offers STARTTLS: set tls = "verify" instead of "implicit"'
    reason = seen.reason.lower()
    if "mismatch" in reason or "not valid for" in reason:
        names = ", ".join(seen.certificate_names) or "no name at all"
        return f"the certificate is for {names}: put one of these names in `via`"
    if "expired" in reason:
        return "the server's certificate has ended: its operator must renew it; check the clock of this machine too"
    if "self-signed" in reason or "unable to get" in reason or "issuer" in reason:
        return 'the authority is not known here: name its certificate with `ca = "FILE"`'
    if "does not offer" in reason:
        return 'the server offers no STARTTLS on this port: try port 465 with tls = "implicit"'
    return ""


def _of_login(seen: Seen) -> str:
    reply = seen.reply
    if "offers no login" in seen.reason:
        return (
            "the server offers no login here: is this its submission port? Or leave out `login` if it knows you by IP"
        )
    if "not encrypted" in seen.reason:
        return 'a password is never said in clear: set tls = "verify", or "implicit" on port 465'
    if reply is None:
        return ""
    words = " ".join(reply.lines).lower()
    if "oauth" in words or "basic auth" in words or "modern auth" in words:
        return "the provider takes no plain passwords for this account: it needs an app password or a connector"
    if reply.code in {534, 535}:
        return f"the login {seen.login} or its password is wrong; many providers want an app password made for programs"
    if reply.code in {454, 432}:
        return "the server cannot check logins now: try again later"
    return ""


def _of_sender(seen: Seen) -> str:
    reply = seen.reply
    if reply is None:
        return ""
    if reply.code == 530:
        return "the server wants a login first: set `login` and `password` in the route"
    if reply.is_permanent:
        return "the server does not take this sender from us: name an address of the account with --from"
    return "the server puts us off: it may do so for everybody it does not know (greylisting)"


def _of_recipient(seen: Seen) -> str:
    reply = seen.reply
    if reply is None:
        return ""
    if reply.is_permanent:
        return "staffetta explain reply tells what such words mean"
    return "the server puts this recipient off: often it takes the same a few minutes later (greylisting)"


def _of_reply(seen: Seen) -> str:
    return ""


_BY_STAGE: Final = {
    "resolve": _of_resolve,
    "connect": _of_connect,
    "greeting": _of_greeting,
    "ehlo": _of_greeting,
    "starttls": _of_tls,
    "tls": _of_tls,
    "auth": _of_login,
    "mail": _of_sender,
    "rcpt": _of_recipient,
}
