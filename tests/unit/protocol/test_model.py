"""The core against a model that knows only the order of commands; and the same octets at every split.

The model is the order of RFC 5321 section 4.1.4, RFC 3030, RFC 3207 and RFC 4954, written without a look at
the core.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.protocol.extensions import ServerSettings
from staffetta.testing.core_wire import HOSTNAME, CoreWire

PLAIN = b"AUTH PLAIN AGFubmFAZXhhbXBsZS5vcmcAc2VjcmV0\r\n"
WRONG = b"AUTH PLAIN AGFubmFAZXhhbXBsZS5vcmcAd3Jvbmc=\r\n"


class Model:
    """What the peer may expect: the codes of the replies to one step, and the messages that were accepted."""

    def __init__(self) -> None:
        self.tls = self.hello = self.login = False
        self.drop()
        self.messages: list[bytes] = []

    def drop(self) -> None:
        self.mail = False
        self.recipients = 0
        self.chunks: bytes | None = None

    def ehlo(self) -> list[int]:
        self.hello = True
        self.drop()
        return [250]

    def mail_ok(self) -> list[int]:
        if not self.hello or self.mail:
            return [503]
        self.mail = True
        return [250]

    def mail_rejected(self) -> list[int]:
        return [503] if not self.hello or self.mail else [550]

    def mail_malformed(self) -> list[int]:
        return [503] if not self.hello or self.mail else [501]

    def rcpt_ok(self) -> list[int]:
        if not self.mail or self.chunks is not None:
            return [503]
        self.recipients += 1
        return [250]

    def rcpt_rejected(self) -> list[int]:
        if not self.mail or self.chunks is not None:
            return [503]
        return [250] if self.login else [550]

    def count_rejected(self) -> None:
        if self.mail and self.chunks is None and self.login:
            self.recipients += 1

    def data(self) -> list[int]:
        if not self.mail or self.chunks is not None:
            return [503]
        if not self.recipients:
            return [554]
        self.messages.append(b"data\r\n.\r\n")
        self.drop()
        return [354, 250]

    def data_bare(self) -> list[int]:
        codes = self.data()
        if codes == [354, 250]:
            self.messages.pop()
            return [354, 554]
        return codes

    def chunk(self, content: bytes, *, last: bool) -> list[int]:
        if not self.mail or not self.recipients:
            code = 554 if self.mail else 503
            self.drop()
            return [code]
        self.chunks = (self.chunks or b"") + content
        if last:
            self.messages.append(self.chunks)
            self.drop()
        return [250]

    def rset(self) -> list[int]:
        self.drop()
        return [250]

    def starttls(self) -> list[int]:
        if self.tls or self.mail:
            return [503]
        self.tls, self.hello, self.login = True, False, False
        return [220]

    def auth(self, *, right: bool) -> list[int]:
        if not self.tls:
            return [538]
        if not self.hello or self.login or self.mail:
            return [503]
        self.login = right
        return [235 if right else 535]


def rcpt_rejected(model: Model) -> list[int]:
    codes = model.rcpt_rejected()
    model.count_rejected()
    return codes


CONTENT = b"data\r\n..\r\n.\r\n"
STEPS: dict[str, tuple[bytes, Callable[[Model], list[int]]]] = {
    "EHLO": (b"EHLO client.example\r\n", Model.ehlo),
    "HELO": (b"helo client.example\r\n", Model.ehlo),
    "MAIL": (b"MAIL FROM:<carol@example.com>\r\n", Model.mail_ok),
    "MAIL rejected": (b"MAIL FROM:<unwelcome@example.com>\r\n", Model.mail_rejected),
    "MAIL malformed": (b"MAIL FROM:<carol>\r\n", Model.mail_malformed),
    "RCPT": (b"RCPT TO:<anna@example.org>\r\n", Model.rcpt_ok),
    "RCPT rejected": (b"RCPT TO:<dave@example.net>\r\n", rcpt_rejected),
    "DATA": (b"DATA\r\n", Model.data),
    "DATA bare": (b"DATA\r\n", Model.data_bare),
    "BDAT": (b"BDAT 6\r\nNOOP\r\n", lambda model: model.chunk(b"NOOP\r\n", last=False)),
    "BDAT LAST": (b"BDAT 6 LAST\r\nQUIT\r\n", lambda model: model.chunk(b"QUIT\r\n", last=True)),
    "RSET": (b"RSET\r\n", Model.rset),
    "NOOP": (b"NOOP\r\n", lambda model: [250]),
    "VRFY": (b"VRFY anna\r\n", lambda model: [252]),
    "unknown": (b"XCLIENT ADDR=127.0.0.1\r\n", lambda model: [500]),
    "STARTTLS": (b"STARTTLS\r\n", Model.starttls),
    "AUTH": (PLAIN, lambda model: model.auth(right=True)),
    "AUTH wrong": (WRONG, lambda model: model.auth(right=False)),
}
BODIES = {"DATA": CONTENT, "DATA bare": b"a\n.\r\nQUIT\r\n.\r\n"}
OPEN = ServerSettings(hostname=HOSTNAME, errors=10**6, commands=10**6, starttls=True, auth=True)


def codes_in(output: bytes) -> list[int]:
    return [int(line[:3]) for line in output.split(b"\r\n")[:-1] if line[3:4] == b" "]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=40))
def test_walks(names: list[str]) -> None:
    model, wire = Model(), CoreWire(OPEN)
    wire.receive_until_quiet()
    for name in names:
        octets, expected = STEPS[name]
        wanted = expected(model)
        wire.send(octets)
        got = codes_in(wire.receive_until_quiet())
        if got == [354]:
            wire.send(BODIES[name])
            got += codes_in(wire.receive_until_quiet())
        if got == [220]:
            wire.start_tls()
        assert got == wanted, (name, names)
    assert wire.accepted() == model.messages
    for message in wire.messages:
        assert message.sender == "carol@example.com"
        assert message.recipients


FRAGMENTS = [octets for octets, _ in STEPS.values() if not octets.startswith(b"STARTTLS")] + [
    b"DATA\r\n",
    b"DATA\r\nx\r\n.\r\n",
    b"RCPT TO:<anna@example.org>\r\n",
    b"MAIL FROM:<carol@example.com>\r\nRCPT TO:<anna@example.org>\r\n",
    b"\r\n.\r\n",
    b"BDAT 3 LAST\r\n",
    b"BDAT 40\r\n",
    b"AUTH LOGIN\r\n",
    b"AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wckdOZndPaTdTeUhhMDBrU2tR\r\n",
    b"YQ==\r\n",
    b"*\r\n",
    b"\r",
    b"\n",
    b".",
    b"\0",
    b"a",
    b" ",
    b"x" * 600,
    b"AUTH PLAIN " + b"A" * 2500,
    b"\xc3\xbc",
    b"GET / HTTP/1.1\r\n",
    b"QUIT\r\n",
]
TIGHT = ServerSettings(hostname=HOSTNAME, errors=6, commands=40, message_size=30, recipients=2, auth=True)
WIDE = ServerSettings(hostname=HOSTNAME, errors=50, auth=True, normalise=True)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25), st.sampled_from([TIGHT, WIDE]), st.data())
def test_splits_do_not_matter(fragments: list[bytes], given_settings: ServerSettings, data: st.DataObject) -> None:
    octets = b"EHLO c\r\n" + b"".join(fragments)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(octets) - 1)), max_size=12)))
    results = []
    for splits in ([], cuts, list(range(1, len(octets)))):
        wire = CoreWire(given_settings, tls=True)
        at = 0
        for split in [*splits, len(octets)]:
            wire.send(octets[at:split])
            at = split
        said = [repr(event) for event in wire.said]
        results.append((said, wire.messages, wire.receive_until_quiet(), wire.is_closed()))
    assert results[1] == results[0]
    assert results[2] == results[0]
