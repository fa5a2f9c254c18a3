"""The server side of an SMTP dialogue: octets in, events and octets out; the owner answers events with replies.

RFC 5321 section 4; PIPELINING (RFC 2920), CHUNKING (3030), STARTTLS (3207), AUTH (4954), SMTPUTF8 (6531).
The core refuses by itself what no policy could allow: syntax, sequence, limits, and what is not SMTP at all. Everything
else becomes an event. It knows no accounts, policies or clocks, does no IO, and never raises on what a peer sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from staffetta.mail.reply import Reply
from staffetta.protocol import refusals, sasl
from staffetta.protocol.commands import CommandError, parse_bdat, parse_hello, parse_mail, parse_rcpt
from staffetta.protocol.events import DataStart, Hello, MailFrom, Quit, RcptTo, Reset, StartTls, Violation
from staffetta.protocol.extensions import ServerSettings, greeting, hello_reply
from staffetta.protocol.framing import AUTH_LINE_OCTETS, ContentFilter, LineFault
from staffetta.protocol.reception import begin_chunk, read_data, refuse_chunk
from staffetta.protocol.states import State, Transaction
from staffetta.protocol.turns import MORE, Step, Turns, encoded

COMMAND_OCTETS: Final = 510
"""Longest command without its CRLF where no parameters are defined, RFC 5321 section 4.5.3.1.4."""

_TLS_HANDSHAKE: Final = 0x16
_NOT_SMTP: Final = {
    "PROXY": "proxy_header",
    **dict.fromkeys(("GET", "POST", "HEAD", "PUT", "CONNECT", "OPTIONS", "DELETE", "PATCH", "TRACE", "PRI"), "http"),
}
"""First words of other protocols, and the rule that cuts them off."""

_LONG_VERBS: Final = frozenset({"MAIL", "RCPT", "AUTH"})


class ServerConnection(Turns):
    """One session. Loop: `receive`; `next_event` until None, with `answer` to each that asks; write `take_output`."""

    __slots__ = ("_chunk", "_commands", "_esmtp", "_exchange", "_offered")

    def __init__(self, settings: ServerSettings, *, tls: bool) -> None:
        super().__init__(settings, _read_command, tls=tls)
        self._commands = 0
        self._esmtp = False
        self._offered: Transaction | None = None
        self._chunk: tuple[int, bool] | None = None
        self._exchange: sasl.Exchange | None = None

    # What the owner calls, besides the methods of Turns.

    def greet(self, reply: Reply | None = None) -> None:
        """Begin with 220, or with a 421 or 554 and nothing after it."""
        self.output.append(greeting(self.settings) if reply is None else reply.encode())
        self.closing = reply is not None and not reply.is_positive

    def scram_keys(self, keys: sasl.ScramKeys, nonce: str) -> None:
        """The answer to ScramNeeded; `nonce` is fresh, 18 to 200 random printable characters without comma."""
        exchange = self._exchange
        if self.answered is None or not isinstance(exchange, sasl.ScramExchange):
            raise RuntimeError("no SCRAM exchange waits for keys")
        self.output.append(sasl.encode_challenge(exchange.server_first(keys, nonce)))
        self.answered = None
        self.phase = _read_response

    def tls_started(self) -> None:
        """The handshake is done: everything that was said before is forgotten (RFC 3207 section 4.2)."""
        self.state = State(tls=True)
        self.inbox.clear()
        self.phase = _read_command
        self.deaf = False

    # Refusing.

    def _refuse_line(self, fault: LineFault, stage: str) -> Violation:
        opening = self.inbox.opening
        word = opening.split(b" ", 1)[0].decode("ascii", "replace").upper()
        if opening[:4].upper() == b"AUTH":
            self.state.auth_tried = True
        if word in _NOT_SMTP:
            return self.cut_off(_NOT_SMTP[word])
        if fault is LineFault.NUL and opening == b"\0" and not self.state.hello:
            return self.cut_off("proxy_header")  # the second line of a PROXY header, version 2
        if fault is LineFault.ENDLESS:
            return self.shut(refusals.LINE_TOO_LONG, fault, stage)
        if fault is LineFault.TOO_LONG and (stage == "auth" or word == "AUTH"):
            return self.refuse(refusals.AUTH_LINE_TOO_LONG, fault, "auth")
        return self.refuse(refusals.FAULTS[fault], fault, stage)

    # Sessions and transactions.

    def _ehlo(self, argument: str, *, esmtp: bool = True) -> Step:
        try:
            event = Hello(parse_hello(argument), esmtp)
        except CommandError as error:
            verb = "EHLO" if esmtp else "HELO"
            return self.refuse(error.reply, error.rule, verb.lower(), f"{verb} {argument}")
        self.state.transaction = None
        self._esmtp = esmtp
        self.answered = _hello_answered
        return event

    def _helo(self, argument: str) -> Step:
        return self._ehlo(argument, esmtp=False)

    def _mail(self, argument: str) -> Step:
        refusal = self.state.judge_mail()
        if refusal is not None:
            return self.refuse(refusal, "sequence", "mail", f"MAIL {argument}")
        try:
            event = MailFrom(parse_mail(argument, self.settings.message_size))
        except CommandError as error:
            return self.refuse(error.reply, error.rule, "mail", f"MAIL {argument}")
        self._offered = Transaction(event.sender.smtputf8)
        self.answered = _mail_answered
        return event

    def _rcpt(self, argument: str) -> Step:
        state = self.state
        refusal = state.judge_rcpt(self.settings)
        transaction = state.transaction
        if refusal is not None or transaction is None:
            rule = "recipients" if refusal is refusals.TOO_MANY_RECIPIENTS else "sequence"
            return self.refuse(refusal or refusals.MAIL_FIRST, rule, "rcpt", f"RCPT {argument}")
        try:
            event = RcptTo(parse_rcpt(argument, smtputf8=transaction.smtputf8))
        except CommandError as error:
            return self.refuse(error.reply, error.rule, "rcpt", f"RCPT {argument}")
        self.answered = _rcpt_answered
        return event

    def _rset(self, argument: str) -> Step:
        if argument:
            return self.refuse(refusals.NO_ARGUMENT, "syntax", "rset", "RSET")
        self.state.transaction = None
        self.answered = _just_answered
        return Reset()

    def _quit(self, argument: str) -> Step:
        if argument:
            return self.refuse(refusals.NO_ARGUMENT, "syntax", "quit", "QUIT")
        self.answered = _quit_answered
        return Quit()

    # Content.

    def _data(self, argument: str) -> Step:
        refusal = refusals.NO_ARGUMENT if argument else self.state.judge_data()
        if refusal is not None:
            return self.refuse(refusal, "syntax" if argument else "sequence", "data", "DATA")
        self.answered = _data_answered
        return DataStart(chunked=False)

    def _bdat(self, argument: str) -> Step:
        try:
            octets, is_last = parse_bdat(argument)
        except CommandError as error:
            # Nobody knows where the chunk ends, and its content must not be taken for commands.
            return self.shut(error.reply, "bdat_syntax", "bdat", "BDAT")
        transaction = self.state.transaction
        refusal = self.state.judge_bdat()
        if refusal is not None or transaction is None:
            return refuse_chunk(self, octets, refusal or refusals.MAIL_FIRST, "sequence")
        if transaction.content is not None:
            return begin_chunk(self, transaction.content, octets, is_last=is_last)
        self._chunk = octets, is_last
        self.answered = _first_chunk_answered
        return DataStart(chunked=True)

    def _begin_content(self, *, chunked: bool) -> ContentFilter:
        settings = self.settings
        content = ContentFilter(settings.message_size, normalise=settings.normalise)
        transaction = self.state.transaction
        if transaction is not None:
            transaction.content = content
            transaction.chunked = chunked
        return content

    # TLS and login.

    def _starttls(self, argument: str) -> Step:
        refusal = refusals.NO_ARGUMENT if argument else self.state.judge_starttls(self.settings)
        if refusal is not None:
            return self.refuse(refusal, "syntax" if argument else "sequence", "starttls", "STARTTLS")
        if self.inbox.octets:
            return self.shut(refusals.PIPELINED_TLS, "starttls_pipelining", "starttls", "STARTTLS")
        self.answered = _starttls_answered
        return StartTls()

    def _auth(self, argument: str) -> Step:
        self.state.auth_tried = True
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper() if mechanism.isascii() else ""
        refusal = self.state.judge_auth(self.settings)
        if refusal is not None:
            return self.refuse(refusal, "sequence", "auth", "AUTH")
        if not mechanism:
            return self.refuse(refusals.AUTH_SYNTAX, "syntax", "auth", "AUTH")
        exchange = sasl.begin(mechanism) if mechanism in self.settings.mechanisms else None
        if exchange is None:
            return self.refuse(refusals.UNKNOWN_MECHANISM, "auth_mechanism", "auth", "AUTH")
        self._exchange = exchange
        if not initial:
            return self._go_on_with_login(exchange, None)
        return self._go_on_with_login(exchange, "" if initial == "=" else initial)

    def _go_on_with_login(self, exchange: sasl.Exchange, response: str | None) -> Step:
        try:
            step = exchange.respond(None if response is None else sasl.decode_response(response))
        except sasl.SaslError as error:
            self._end_exchange()
            return self.refuse(error.reply, error.rule, "auth", "AUTH")
        if isinstance(step, bytes):
            self.output.append(sasl.encode_challenge(step))
            self.phase = _read_response
            return None
        self.answered = _login_answered
        return step

    def _end_exchange(self) -> None:
        self._exchange = None
        self.phase = _read_command

    # The rest.

    def _noop(self, argument: str) -> Step:
        self.output.append(refusals.NOOP)
        return None

    def _help(self, argument: str) -> Step:
        self.output.append(refusals.HELP)
        return None

    def _vrfy(self, argument: str) -> Step:
        if not argument:
            return self.refuse(refusals.VRFY_SYNTAX, "syntax", "vrfy", "VRFY")
        self.output.append(refusals.VRFY)
        return None

    def _not_implemented(self, argument: str) -> Step:
        return self.refuse(refusals.NOT_IMPLEMENTED, "not_implemented", "command")

    def _unknown(self, verb: str) -> Step:
        # After an AUTH, what looks like a command may be a password that came too early.
        shown = "" if self.state.auth_tried else verb[:16]
        return self.refuse(refusals.UNKNOWN, "unknown_command", "command", shown)


_VERBS: Final[dict[str, Callable[[ServerConnection, str], Step]]] = {
    "EHLO": ServerConnection._ehlo,
    "HELO": ServerConnection._helo,
    "MAIL": ServerConnection._mail,
    "RCPT": ServerConnection._rcpt,
    "DATA": ServerConnection._data,
    "BDAT": ServerConnection._bdat,
    "RSET": ServerConnection._rset,
    "QUIT": ServerConnection._quit,
    "NOOP": ServerConnection._noop,
    "HELP": ServerConnection._help,
    "VRFY": ServerConnection._vrfy,
    "STARTTLS": ServerConnection._starttls,
    "AUTH": ServerConnection._auth,
    "EXPN": ServerConnection._not_implemented,
    "ETRN": ServerConnection._not_implemented,
    "TURN": ServerConnection._not_implemented,
    "SEND": ServerConnection._not_implemented,
    "SOML": ServerConnection._not_implemented,
    "SAML": ServerConnection._not_implemented,
}


# Phases: what the octets are for.


def _read_command(connection: ServerConnection) -> Step:
    inbox = connection.inbox
    if not connection._commands and inbox.peek() == _TLS_HANDSHAKE:
        return connection.cut_off("tls_without_starttls")
    line = inbox.line()
    if line is None:
        return MORE
    if type(line) is LineFault:
        return connection._refuse_line(line, "command")
    connection._commands += 1
    if connection._commands > connection.settings.commands:
        return connection.shut(refusals.TOO_MANY_COMMANDS, "commands_per_session", "command")
    verb, _, argument = line.partition(" ")
    handler = _VERBS.get(verb)
    if handler is None:
        verb = verb.upper() if verb.isascii() else ""
        if verb in _NOT_SMTP:
            return connection.cut_off(_NOT_SMTP[verb])
        handler = _VERBS.get(verb)
        if handler is None:
            return connection._unknown(verb)
    if len(line) > COMMAND_OCTETS and verb not in _LONG_VERBS:
        return connection.refuse(refusals.LINE_TOO_LONG, LineFault.TOO_LONG, "command", verb)
    return handler(connection, argument.strip(" "))


def _read_response(connection: ServerConnection) -> Step:
    exchange = connection._exchange
    line = connection.inbox.line(AUTH_LINE_OCTETS)
    if line is None or exchange is None:
        return MORE
    if isinstance(line, LineFault):
        connection._end_exchange()
        return connection._refuse_line(line, "auth")
    return connection._go_on_with_login(exchange, line)


def _wait_for_tls(connection: ServerConnection) -> Step:
    return MORE


# What becomes of an answer.


def _just_answered(connection: ServerConnection, reply: Reply) -> None:
    connection.output.append(encoded(reply))


def _hello_answered(connection: ServerConnection, reply: Reply) -> None:
    if not reply.is_positive:
        connection.output.append(encoded(reply))
        return
    settings, state = connection.settings, connection.state
    state.hello = True
    connection.output.append(hello_reply(settings, connection._esmtp, state.tls, state.authenticated))


def _mail_answered(connection: ServerConnection, reply: Reply) -> None:
    if reply.is_positive:
        connection.state.transaction = connection._offered
    connection._offered = None
    connection.output.append(encoded(reply))


def _rcpt_answered(connection: ServerConnection, reply: Reply) -> None:
    transaction = connection.state.transaction
    if reply.is_positive and transaction is not None:
        transaction.recipients += 1
    connection.output.append(encoded(reply))


def _data_answered(connection: ServerConnection, reply: Reply) -> None:
    connection.output.append(encoded(reply))
    if not reply.is_positive:
        connection.state.transaction = None
        return
    connection.inbox.begin_data()
    connection._begin_content(chunked=False)
    connection.phase = read_data


def _first_chunk_answered(connection: ServerConnection, reply: Reply) -> None:
    chunk, connection._chunk = connection._chunk, None
    if chunk is None:
        return
    octets, is_last = chunk
    if reply.is_positive:
        content = connection._begin_content(chunked=True)
        connection.queued = begin_chunk(connection, content, octets, is_last=is_last)
    else:
        connection.state.transaction = None
        connection.queued = refuse_chunk(connection, octets, reply)


def _quit_answered(connection: ServerConnection, reply: Reply) -> None:
    connection.output.append(encoded(reply))
    connection.closing = True


def _starttls_answered(connection: ServerConnection, reply: Reply) -> None:
    if not reply.is_positive:
        connection.output.append(encoded(reply))
    elif connection.inbox.octets:
        connection.queued = connection.shut(refusals.PIPELINED_TLS, "starttls_pipelining", "starttls", "STARTTLS")
    else:
        connection.output.append(encoded(reply))
        connection.phase = _wait_for_tls
        connection.deaf = True


def _login_answered(connection: ServerConnection, reply: Reply) -> None:
    if reply.is_positive:
        connection.state.authenticated = True
    connection._end_exchange()
    connection.output.append(encoded(reply))
