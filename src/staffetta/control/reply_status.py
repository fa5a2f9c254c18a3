"""What codes and enhanced statuses mean by themselves, for replies whose words nobody wrote down.

RFC 3463 with RFC 3886, 4954, 5248, 6710, 7293, 7372, 7505 and 8689 (the registry of enhanced status codes); RFC 5321
section 4.2.2 (codes).
"""

from __future__ import annotations

from typing import Final

from staffetta.mail.reply import EnhancedStatus

_SUBJECTS: Final = {
    0: ("", "other or undefined status"),
    1: ("mailbox", "something about an address"),
    2: ("mailbox", "something about the mailbox"),
    3: ("temporary", "something about the receiving mail system"),
    4: ("network", "something about the network or the routing"),
    5: ("configuration", "something about the mail protocol"),
    6: ("content", "something about the content or its form"),
    7: ("policy", "something about security or policy"),
}
"""The second number: the class of the reply, and what it is about."""

_DETAILS: Final = {
    (1, 0): ("mailbox", "other address status"),
    (1, 1): ("mailbox", "no such mailbox"),
    (1, 2): ("mailbox", "the recipient's domain does not exist or takes no mail"),
    (1, 3): ("mailbox", "the recipient's address is malformed"),
    (1, 4): ("mailbox", "the recipient's address is ambiguous"),
    (1, 5): ("mailbox", "the recipient's address is valid"),
    (1, 6): ("mailbox", "the mailbox has moved and left no new address"),
    (1, 7): ("configuration", "the sender's address is malformed"),
    (1, 8): ("configuration", "the sender's domain does not exist or takes no mail"),
    (1, 9): ("content", "the message was handed to a system that does not know what was asked for"),
    (1, 10): ("mailbox", "the recipient's domain takes no mail (null MX)"),
    (2, 0): ("mailbox", "other mailbox status"),
    (2, 1): ("mailbox", "the mailbox is disabled"),
    (2, 2): ("quota", "the mailbox is full"),
    (2, 3): ("size", "the message is longer than the mailbox takes"),
    (2, 4): ("mailbox", "the mailing list cannot be expanded"),
    (3, 0): ("temporary", "other mail system status"),
    (3, 1): ("temporary", "the mail system has no space"),
    (3, 2): ("temporary", "the system takes no mail now"),
    (3, 3): ("configuration", "the system cannot do what the message needs"),
    (3, 4): ("size", "the message is too big for the system"),
    (3, 5): ("configuration", "the system is configured wrongly"),
    (3, 6): ("temporary", "the priority that was asked for was changed"),
    (4, 0): ("network", "other network or routing status"),
    (4, 1): ("network", "no answer from the host"),
    (4, 2): ("network", "the connection broke"),
    (4, 3): ("network", "the name service did not answer"),
    (4, 4): ("network", "there is no way to the host"),
    (4, 5): ("rate", "the mail system is congested"),
    (4, 6): ("configuration", "the message goes in a circle"),
    (4, 7): ("network", "the delivery time has expired"),
    (5, 0): ("configuration", "other protocol status"),
    (5, 1): ("configuration", "the command is not valid here"),
    (5, 2): ("configuration", "a command or its text is malformed"),
    (5, 3): ("rate", "too many recipients for one transaction"),
    (5, 4): ("configuration", "the arguments of a command are not valid"),
    (5, 5): ("configuration", "the protocol versions do not fit"),
    (5, 6): ("configuration", "a line of the login is too long"),
    (6, 0): ("content", "other content status"),
    (6, 1): ("content", "the kind of content is not supported"),
    (6, 2): ("content", "a conversion is needed and not allowed"),
    (6, 3): ("content", "a conversion is needed and not possible"),
    (6, 4): ("content", "the content was converted with loss"),
    (6, 5): ("content", "the conversion failed"),
    (6, 6): ("content", "the content is not available"),
    (6, 7): ("content", "addresses beyond ASCII are not supported"),
    (6, 8): ("content", "a reply in UTF-8 is needed and not allowed"),
    (6, 9): ("content", "the header needs UTF-8, which is not supported"),
    (7, 0): ("policy", "other security status"),
    (7, 1): ("policy", "delivery is not allowed"),
    (7, 2): ("policy", "the mailing list takes no mail from this sender"),
    (7, 3): ("policy", "a security conversion is needed and not possible"),
    (7, 4): ("authentication", "a security feature is not supported"),
    (7, 5): ("tls", "the cryptography failed"),
    (7, 6): ("tls", "the algorithm is not supported"),
    (7, 7): ("authentication", "the integrity of the message is broken"),
    (7, 8): ("authentication", "the login is not valid"),
    (7, 9): ("authentication", "the way of logging in is too weak"),
    (7, 10): ("tls", "encryption is needed"),
    (7, 11): ("tls", "encryption is needed for this way of logging in"),
    (7, 12): ("authentication", "the password has to be changed or transferred first"),
    (7, 13): ("authentication", "the account is disabled"),
    (7, 14): ("authentication", "a trust relationship is needed"),
    (7, 15): ("policy", "the priority is too low for this system now"),
    (7, 16): ("size", "the message is too big for its priority"),
    (7, 17): ("mailbox", "the mailbox has another owner since"),
    (7, 18): ("mailbox", "the domain has another owner since"),
    (7, 19): ("mailbox", "the check of the mailbox's owner could not be completed"),
    (7, 20): ("authentication", "no DKIM signature passed"),
    (7, 21): ("authentication", "no acceptable DKIM signature was found"),
    (7, 22): ("authentication", "no DKIM signature of the author's domain passed"),
    (7, 23): ("authentication", "SPF says no"),
    (7, 24): ("authentication", "SPF could not be evaluated"),
    (7, 25): ("reputation", "the sending address has no confirmed reverse name"),
    (7, 26): ("authentication", "several authentication checks failed"),
    (7, 27): ("configuration", "the sender's domain takes no mail (null MX)"),
    (7, 28): ("rate", "there is a flood of mail"),
    (7, 29): ("authentication", "the ARC chain is not valid"),
    (7, 30): ("tls", "REQUIRETLS was asked for and cannot be kept"),
}

_CODES: Final = {
    421: ("temporary", "the server closes the connection"),
    422: ("quota", "the mailbox is full, as some servers say it"),
    450: ("temporary", "the mailbox is not available now"),
    451: ("temporary", "the server has a problem of its own"),
    452: ("temporary", "the server has no room now, or was given too many recipients"),
    454: ("temporary", "the login or TLS is not possible now"),
    455: ("configuration", "the server cannot take these parameters now"),
    500: ("configuration", "the server did not understand a command"),
    501: ("configuration", "the server did not understand an argument"),
    502: ("configuration", "the server does not implement a command"),
    503: ("configuration", "the server did not expect this command now"),
    504: ("configuration", "the server does not implement a parameter"),
    521: ("configuration", "the host takes no mail"),
    530: ("authentication", "a login or TLS is needed first"),
    534: ("authentication", "the way of logging in is too weak"),
    535: ("authentication", "the login was refused"),
    538: ("tls", "encryption is needed for this way of logging in"),
    541: ("policy", "the message was rejected as unwanted, as some servers say it"),
    550: ("mailbox", "the mailbox is not available or the server does not want the message"),
    551: ("mailbox", "the recipient is somewhere else"),
    552: ("quota", "the message or the mailbox is larger than allowed"),
    553: ("mailbox", "the address is not allowed"),
    554: ("policy", "the server refuses without a code that says why"),
    555: ("configuration", "the server does not know a parameter"),
    556: ("mailbox", "the recipient's domain takes no mail"),
    571: ("policy", "the server does not want the message, as some servers say it"),
}


def status_meaning(enhanced: EnhancedStatus) -> str:
    """An enhanced status in words, as the registry means it; some providers use numbers of their own."""
    key = (enhanced.subject, enhanced.detail)
    if key in _DETAILS:
        return _DETAILS[key][1]
    if enhanced.subject not in _SUBJECTS:
        return "not a registered status"
    about = _SUBJECTS[enhanced.subject][1]
    return about if enhanced.detail == 0 else f"{about}; the detail is the server's own"


def by_status(enhanced: EnhancedStatus) -> tuple[str, str] | None:
    """The class of a registered status and what it means; None where the status says nothing."""
    key = (enhanced.subject, enhanced.detail)
    if key in _DETAILS:
        return _DETAILS[key]
    name, about = _SUBJECTS.get(enhanced.subject, ("", ""))
    return (name, about) if name else None


def by_code(code: int) -> tuple[str, str]:
    """The class of a code and what it means."""
    if code in _CODES:
        return _CODES[code]
    if code < 400:
        return "accepted", "the server agreed"
    return ("temporary", "a temporary failure") if code < 500 else ("policy", "a permanent refusal")
