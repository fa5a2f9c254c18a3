"""What the server core says by itself: refusals that no policy could change, and answers that hold nothing.

RFC 5321 section 4.2, RFC 3463. Every sentence is for the peer; the operator reads the rule of the Violation.
"""

from __future__ import annotations

from typing import Final

from staffetta.mail.reply import Reply, reply
from staffetta.protocol.framing import LineFault

# Sequence.

HELLO_FIRST: Final = reply(503, "5.5.1", "say EHLO first")
NESTED_MAIL: Final = reply(503, "5.5.1", "a transaction is open already; RSET ends it")
MAIL_FIRST: Final = reply(503, "5.5.1", "MAIL first")
RCPT_AFTER_CONTENT: Final = reply(503, "5.5.1", "the content has begun; no more recipients")
TOO_MANY_RECIPIENTS: Final = reply(452, "4.5.3", "too many recipients; send the rest in another transaction")
NO_RECIPIENTS: Final = reply(554, "5.5.1", "no valid recipients")
DATA_AFTER_BDAT: Final = reply(503, "5.5.1", "BDAT was used in this transaction; go on with BDAT")
TLS_NOT_OFFERED: Final = reply(502, "5.5.1", "STARTTLS is not offered")
TLS_TWICE: Final = reply(503, "5.5.1", "TLS is active already")
TLS_IN_TRANSACTION: Final = reply(503, "5.5.1", "STARTTLS is not possible inside a transaction")
AUTH_NOT_OFFERED: Final = reply(502, "5.5.1", "AUTH is not offered")
AUTH_NEEDS_TLS: Final = reply(538, "5.7.11", "encryption required; STARTTLS first")
AUTH_TWICE: Final = reply(503, "5.5.1", "you are logged in already")
AUTH_IN_TRANSACTION: Final = reply(503, "5.5.1", "AUTH is not possible inside a transaction")

# Syntax and limits.

LINE_TOO_LONG: Final = reply(500, "5.5.2", "line too long")
AUTH_LINE_TOO_LONG: Final = reply(500, "5.5.6", "line too long")
NO_ARGUMENT: Final = reply(501, "5.5.4", "this command takes no argument")
VRFY_SYNTAX: Final = reply(501, "5.5.4", "an argument is needed")
AUTH_SYNTAX: Final = reply(501, "5.5.4", "syntax: AUTH mechanism [initial-response]")
UNKNOWN: Final = reply(500, "5.5.1", "command not recognised")
NOT_IMPLEMENTED: Final = reply(502, "5.5.1", "command not implemented")
UNKNOWN_MECHANISM: Final = reply(504, "5.5.4", "mechanism not supported")
PIPELINED_TLS: Final = reply(554, "5.5.0", "nothing may follow STARTTLS before the handshake")
TOO_BIG: Final = reply(552, "5.3.4", "the message is bigger than this server accepts")
TOO_MANY_ERRORS: Final = reply(421, "4.7.0", "too many errors, closing")
TOO_MANY_COMMANDS: Final = reply(421, "4.7.0", "too many commands in one session, closing")

FAULTS: Final[dict[LineFault, Reply]] = {
    LineFault.BARE_LF: reply(500, "5.5.2", "a line ends with CR LF"),
    LineFault.BARE_CR: reply(500, "5.5.2", "CR without LF"),
    LineFault.NUL: reply(500, "5.5.2", "NUL in a command"),
    LineFault.CONTROL: reply(501, "5.5.2", "control character in a command"),
    LineFault.NOT_UTF8: reply(501, "5.5.2", "a command is ASCII or UTF-8"),
    LineFault.TOO_LONG: LINE_TOO_LONG,
    LineFault.ENDLESS: LINE_TOO_LONG,
}

# Answers that hold nothing, as they go over the wire.

NOOP: Final = b"250 2.0.0 ok\r\n"
CHUNK: Final = b"250 2.0.0 chunk received\r\n"
VRFY: Final = b"252 2.5.2 send it a message and see\r\n"
HELP: Final = b"214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH\r\n"
