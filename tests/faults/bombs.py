"""Messages that were made to cost their reader more than their writer (threats S8 and S10), and the DNS they point to.

Each is an iterator of pieces, so that the one who sends it does not need its memory either.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from staffetta.mailauth.dkim.canonical import BodyHash, Canon, relaxed_field
from staffetta.message.header import Header, field_from

SIZE: Final = 25_000_000
"""Just below the limit for messages, 25 MiB."""

PIECE: Final = 65536
FROM: Final = (
    b"From: <eve@bomb.example>\r\nMessage-ID: <bomb@bomb.example>\r\nDate: Tue, 24 Nov 2026 11:00:00 +0000\r\n"
)
KEY_BITS: Final = (8192, 16384)

ANY, REFUSED, REFUSED_AT_MX, TAKEN = "any", "refused", "refused at mx", "taken"


class Bomb(msgspec.Struct, frozen=True):
    """`content` makes the octets. `expected`: at both doors refused, or taken, or either; or mended for our own users
    (a NUL is dropped there) and refused at mx. `removed`: its Authentication-Results are taken out at mx."""

    name: str
    content: Callable[[], Iterable[bytes]]
    expected: str = ANY
    removed: bool = False


def pieces(content: Iterable[bytes]) -> Iterator[bytes]:
    """The same in pieces of PIECE octets."""
    kept: list[bytes] = []
    size = 0
    for part in content:
        kept.append(part)
        size += len(part)
        if size >= PIECE:
            whole = b"".join(kept)
            end = len(whole) - len(whole) % PIECE
            for start in range(0, end, PIECE):
                yield whole[start : start + PIECE]
            kept, size = [whole[end:]], len(whole) - end
    if size:
        yield b"".join(kept)


def message(*fields: bytes, body: Iterable[bytes] = (b"hello\r\n",)) -> Iterator[bytes]:
    """A message from eve with these fields."""
    yield FROM
    yield from fields
    yield b"\r\n"
    yield from body


def lines(line: bytes, octets: int = SIZE) -> Iterator[bytes]:
    """A body of one line again and again."""
    block = line * max(1, PIECE // len(line))
    for _ in range(octets // len(block)):
        yield block


def field(name: bytes, part: bytes, count: int) -> Iterator[bytes]:
    """One folded field."""
    yield name + b":"
    for _ in range(count):
        yield b"\r\n " + part
    yield b"\r\n"


# The shapes of MIME.


def deep(levels: int) -> Iterator[bytes]:
    for level in range(levels):
        yield b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
    yield b"\r\nend\r\n"
    for level in reversed(range(levels)):
        yield b"--b%d--\r\n" % level


def nested_messages(levels: int) -> Iterator[bytes]:
    for level in range(levels):
        yield b"Content-Type: message/rfc822\r\nSubject: %d\r\n\r\n" % level
    yield b"end\r\n"


CHARSETS: Final = ("utf-7", "idna", "zlib_codec", "unicode_escape", "punycode", "hex", "rot13", "undefined", "x" * 60)
NAMES: Final = (b"__class__", b"__proto__", b"constructor", b"headers", b"self", b"get", b"block", b"fields", b"from_")

SHAPES: Final = (
    Bomb("10,000 multiparts in one another", lambda: message(body=deep(10_000)), ANY),
    Bomb(
        "the same in the header",
        lambda: message(b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n", body=deep(10_000)),
        TAKEN,
    ),
    Bomb(
        "100,000 parts",
        lambda: message(
            b"Content-Type: multipart/mixed; boundary=b\r\n",
            body=lines(b"--b\r\nContent-Type: a/b\r\n\r\nx\r\n", 3_600_000),
        ),
        TAKEN,
    ),
    Bomb("a million fields", lambda: message(*[b"X: y\r\n"] * 1_000_000), REFUSED),
    Bomb("a million lines of one field", lambda: message(*field(b"X", b"y", 1_000_000)), REFUSED),
    Bomb("fields up to the limit", lambda: message(*[b"X: y\r\n"] * 1_990), TAKEN),
    Bomb("one header of 25 MB", lambda: message(b"X: ", *lines(b"x" * 998 + b"\r\n ")), REFUSED),
    Bomb("one line of 25 MB in the header", lambda: message(b"X: ", *lines(b"x" * PIECE), b"\r\n"), REFUSED),
    Bomb("one line of 25 MB in the body", lambda: message(body=lines(b"x" * PIECE)), REFUSED),
    Bomb("a million addresses in To", lambda: message(*field(b"To", b"a@b.example,", 1_000_000)), REFUSED),
    Bomb("as many addresses as fit", lambda: message(*field(b"To", b"a@b.example,", 16_000)), TAKEN),
    Bomb("as many in Cc, all groups", lambda: message(*field(b"Cc", b"g:a@b.example;,", 13_000)), TAKEN),
    Bomb(
        "a million authors", lambda: [b"".join(field(b"From", b"a@b.example,", 1_000_000)), b"\r\nhello\r\n"], REFUSED
    ),
    Bomb("as many authors as fit", lambda: [b"".join(field(b"From", b"a@b.example,", 16_000)), b"\r\nhello\r\n"]),
    Bomb(
        "authors whose domains are dear to read",
        lambda: [
            *field(b"From", b"a@" + b".".join([b"xn--%s" % dear for dear in DEAR]) + b",", 100),
            *field(b"Sender", b"a@" + ".".join(f"\u00e9{n}" for n in range(40)).encode() + b".fr,", 100),
            *field(b"Resent-From", b"b@" + ".".join(f"\u00f6{n}" for n in range(40)).encode() + b".fr,", 100),
            b"\r\nhello\r\n",
        ],
    ),
    Bomb("authors in nested comments", lambda: [b"From: " + b"(" * 200_000 + b"\r\n\r\nhello\r\n"], REFUSED),
    Bomb("nested comments as far as they are read", lambda: [b"From: " + b"(a" * 8000 + b"\r\n\r\nhello\r\n"]),
    Bomb("quotes that never end", lambda: [*field(b"From", b'"\\', 60_000), b"\r\nhello\r\n"]),
    Bomb("100,000 encoded words", lambda: message(*field(b"Subject", b"=?utf-8?q?=40?=", 100_000)), REFUSED),
    Bomb("as many encoded words as fit", lambda: message(*field(b"Subject", b"=?utf-8?q?=40?=", 14_000)), TAKEN),
    Bomb("the same in From", lambda: [*field(b"From", b"=?utf-8?q?a=40b.c?=", 11_000), b" <a@b.c>\r\n\r\nhello\r\n"]),
    Bomb(
        "charsets that are code",
        lambda: [
            b"From: "
            + b" ".join(b"=?%s?b?eJwDAAAAAAE=?=" % name.encode() for name in CHARSETS)
            + b" <eve@bomb.example>\r\n",
            b"\r\nhello\r\n",
        ],
    ),
    Bomb(
        "10,000 pieces of a parameter",
        lambda: message(b"Content-Type: a/b", *[b";\r\n name*%d*=%%41" % number for number in range(10_000)], b"\r\n"),
        TAKEN,
    ),
    Bomb(
        "a boundary of 10 KB",
        lambda: message(b"Content-Type: multipart/mixed; boundary=" + b"b" * 10_240 + b"\r\n"),
        TAKEN,
    ),
    Bomb(
        "boundaries that begin like others",
        lambda: message(
            b"Content-Type: multipart/mixed; boundary=b\r\n",
            body=(b"--" + b"b" * size + b"\r\n" for size in range(1, 5000)),
        ),
        TAKEN,
    ),
    Bomb("1,000 messages in one another", lambda: message(b"X: y\r\n", body=nested_messages(1_000)), TAKEN),
    Bomb("names of the language", lambda: message(*[name + b": x\r\n" for name in NAMES]), TAKEN),
    Bomb("fields without a name", lambda: message(*[b": x\r\n"] * 1_900)),
    Bomb("lines without a colon", lambda: message(*[b"no colon\r\n"] * 1_900)),
    Bomb("lines of white space", lambda: message(*field(b"X", b"", 60_000))),
    Bomb("a NUL in the header", lambda: message(b"X: a\0b\r\n"), REFUSED_AT_MX),
    Bomb("a NUL in the body", lambda: message(body=(b"a\0b\r\n",)), REFUSED_AT_MX),
    Bomb("it begins with white space", lambda: [b" x\r\n", *message()], REFUSED),
    Bomb("From on every line", lambda: message(*field(b"X", b"From: a@b.c", 15_000))),
    Bomb(
        "results in our name",
        lambda: message(*[b"Authentication-Results: mx.example.org; spf=pass\r\n"] * 1_900),
        TAKEN,
        removed=True,
    ),
    Bomb(
        "results in comments and another alphabet",
        lambda: message(
            b"Authentication-Results: " + b"(" * 60_000 + b")\r\n " + b"\xe4\xb8\x80" * 20_000 + b"; none\r\n"
        ),
        TAKEN,
        removed=True,
    ),
    Bomb("25 MB of empty lines", lambda: message(body=lines(b"\r\n")), TAKEN),
    Bomb("25 MB of dots", lambda: message(body=lines(b".\r\n")), TAKEN),
    Bomb("25 MB of blanks", lambda: message(body=lines(b" " * 60_000 + b"\r\n")), TAKEN),
)
DEAR: Final = (b"9ca", b"sb-mia", b"tb-mia", b"0ca", b"bb-mia", b"2ca", b"3ca", b"4ca", b"5ca", b"6ca", b"7ca", b"8ca")


# Signatures.

DEAR_BODY: Final = b"a \t" * 20_000 + b"\r\n"
"""What is dearest to canonicalise: single blanks of two kinds."""


def der(modulus: int, exponent: int) -> bytes:
    """An RSA public key in DER, whether it is one or not."""

    def wrapped(tag: int, data: bytes) -> bytes:
        size = len(data)
        length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
        return bytes([tag]) + length + data

    numbers = [wrapped(2, n.to_bytes(n.bit_length() // 8 + 1, "big")) for n in (modulus, exponent)]
    key = wrapped(0x30, b"".join(numbers))
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    return wrapped(0x30, algorithm + wrapped(3, b"\0" + key))


def key_text(bits: int, exponent: int) -> str:
    modulus = secrets.randbits(bits) | 1 << bits - 1 | 1
    return f"v=DKIM1; k=rsa; p={base64.b64encode(der(modulus, exponent)).decode()}"


def body_hash(body: Iterable[bytes], canon: Canon, limit: int | None = None) -> bytes:
    hasher = BodyHash(canon, limit)
    for part in body:
        hasher.feed(part)
    return base64.b64encode(hasher.finish())


def signature(selector: str, hashed: bytes, **tags: str) -> bytes:
    """A DKIM-Signature whose body hash is right and whose signature is not, of 8192 bits."""
    more = "".join([f" {name}={value};" for name, value in tags.items() if name not in {"c", "h", "d"}])
    return b"DKIM-Signature: v=1; a=rsa-sha256; c=%s; d=%s; s=%s; h=%s;%s bh=%s;\r\n b=%s\r\n" % (
        tags.get("c", "relaxed/relaxed").encode(),
        tags.get("d", "bomb.example").encode(),
        selector.encode(),
        tags.get("h", "from").encode(),
        more.encode(),
        hashed,
        base64.b64encode(b"\x7f" + bytes(1023)),
    )


HELLO: Final = body_hash((b"hello\r\n",), Canon.RELAXED)


class DearKey:
    """An RSA key of 8192 bits that is made in no time: it has sixteen factors. To check with, it is like any other."""

    def __init__(self) -> None:
        self.exponent = (1 << 32) + 1
        self.primes: list[int] = []
        while len(self.primes) < 16:
            number = secrets.randbits(512) | 3 << 510 | 1
            if (number - 1) % 641 and (number - 1) % 6_700_417 and pow(2, number - 1, number) == 1:
                self.primes.append(number)
        self.modulus = math.prod(self.primes)

    def sign(self, octets: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256, in base64."""
        size = (self.modulus.bit_length() + 7) // 8
        digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(octets).digest()
        padded = int.from_bytes(b"\0\1" + b"\xff" * (size - 3 - len(digest)) + b"\0" + digest, "big")
        signed = 0
        for prime in self.primes:
            rest = self.modulus // prime
            signed += pow(padded, pow(self.exponent, -1, prime - 1), prime) * rest * pow(rest, -1, prime)
        return base64.b64encode((signed % self.modulus).to_bytes(size, "big"))

    @property
    def record(self) -> str:
        return f"v=DKIM1; k=rsa; p={base64.b64encode(der(self.modulus, self.exponent)).decode()}"


REAL: Final = DearKey()


def chain(sets: int, body: bytes = b"hello\r\n") -> bytes:
    """A valid chain, each of its signatures as dear to check as can be: three wrong keys come before the right one."""
    hashed = body_hash((body,), Canon.RELAXED)
    authors = b"".join(relaxed_field(one) for one in Header(FROM).all(b"from"))
    sealed = b""
    block: list[bytes] = []
    for number in range(1, sets + 1):
        results = b"ARC-Authentication-Results: i=%d; mx.bomb.example; none\r\n" % number
        start = (
            b"ARC-Message-Signature: i=%d; a=rsa-sha256; c=relaxed/relaxed; d=bomb.example; s=real; h=from; bh=%s; b="
        )
        message_signature = start % (number, hashed)
        if number == sets:
            signed = authors + relaxed_field(field_from(message_signature + b"\r\n")).removesuffix(b"\r\n")
            message_signature += REAL.sign(signed)
        message_signature += b"\r\n"
        sealed += relaxed_field(field_from(results)) + relaxed_field(field_from(message_signature))
        valid = b"none" if number == 1 else b"pass"
        seal = b"ARC-Seal: i=%d; a=rsa-sha256; cv=%s; d=bomb.example; s=real; b=" % (number, valid)
        seal += REAL.sign(sealed + relaxed_field(field_from(seal + b"\r\n")).removesuffix(b"\r\n")) + b"\r\n"
        sealed += relaxed_field(field_from(seal))
        block += [seal, message_signature, results]
    return b"".join(block)


def many_limits() -> Iterator[bytes]:
    """Eight signatures over 25 MB, each of another length and half of them in another canonical form."""
    fields = []
    for number in range(8):
        form = "relaxed/relaxed" if number % 4 else "simple/simple"
        fields.append(signature(f"dear{number}", b"A" * 43 + b"=", c=form, l=str(20_000_000 + number)))
    return message(*fields, body=lines(DEAR_BODY))


def one_limit_each() -> Iterator[bytes]:
    hashed = [body_hash((b"hello\r\n",), Canon.RELAXED, limit) for limit in range(8)]
    return message(*[signature(f"dear{number}", hashed[number], l=str(number)) for number in range(8)])


SIGNATURES: Final = (
    Bomb(
        "2,000 signatures",
        lambda: message(*[b"DKIM-Signature: v=1; d=a.example; s=s; h=from; bh=x; b=x\r\n"] * 1_990),
        TAKEN,
    ),
    Bomb(
        "eight signatures with four dear keys each",
        lambda: message(*[signature(f"dear{n}", HELLO) for n in range(8)]),
        TAKEN,
    ),
    Bomb("the same with lengths", one_limit_each, TAKEN),
    Bomb("eight lengths of 25 MB", many_limits, TAKEN),
    Bomb("50 sets with dear keys", lambda: message(chain(50)), TAKEN),
    Bomb("51 sets", lambda: message(chain(1) * 51), TAKEN),
    Bomb("h= with 10,000 names", lambda: message(signature("dear1", HELLO, h="from" + ":x" * 10_000)), TAKEN),
    Bomb(
        "eight times h= with 8,000 names",
        lambda: message(
            *[b"X: y\r\n"] * 1_900, *[signature(f"dear{n}", HELLO, h="from" + ":x" * 6_500) for n in range(8)]
        ),
        TAKEN,
    ),
    Bomb("a signature of 1 MB", lambda: message(*field(b"DKIM-Signature", b"x" * 70, 15_000)), REFUSED),
    Bomb("a length of 76 digits", lambda: message(signature("dear1", HELLO, l="9" * 76)), TAKEN),
    Bomb(
        "unfit keys",
        lambda: message(*[signature(name, HELLO) for name in ("long", "slow", "huge", "junk", "dh")]),
        TAKEN,
    ),
    Bomb(
        "empty lines, signed",
        lambda: message(signature("dear1", HELLO), signature("dear2", HELLO, c="simple/simple"), body=lines(b"\r\n")),
        TAKEN,
    ),
    Bomb("blanks, signed", lambda: message(signature("dear1", HELLO), body=lines(b" " * 60_000 + b"\r\n")), TAKEN),
    Bomb(
        "dear blanks, signed and sealed",
        lambda: message(signature("dear1", HELLO), chain(1), body=lines(DEAR_BODY)),
        TAKEN,
    ),
)


def zones() -> dict[str, Any]:
    """What the bombs' domains say in the DNS."""
    dear = [key_text(8192, (1 << 32) + 1) for _ in range(4)]
    found: dict[str, Any] = {f"dear{number}._domainkey.bomb.example": {"TXT": dear} for number in range(51)}
    found["real._domainkey.bomb.example"] = {"TXT": [*dear[:3], REAL.record]}
    found["long._domainkey.bomb.example"] = {"TXT": [key_text(16384, 65537)]}
    found["slow._domainkey.bomb.example"] = {"TXT": [key_text(8192, secrets.randbits(2000) | 1 << 1999 | 1)]}
    found["huge._domainkey.bomb.example"] = {"TXT": ["v=DKIM1; p=" + "A" * 64_000]}
    found["junk._domainkey.bomb.example"] = {
        "TXT": ["v=DKIM1; p=" + base64.b64encode(hashlib.sha512(b"").digest()).decode()]
    }
    found["dh._domainkey.bomb.example"] = {"TXT": ["v=DKIM1; p=MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE" + "A" * 86 + "=="]}
    found["bomb.example"] = {"TXT": ["v=spf1 " + " ".join([f"include:i{n}.bomb.example" for n in range(9)]) + " -all"]}
    for number in range(9):
        found[f"i{number}.bomb.example"] = {"TXT": [f"v=spf1 {'ip4:192.0.2.0/32 ' * 900}-all"]}
    found["_dmarc.bomb.example"] = {"TXT": ["v=DMARC1; p=none; " + "rua=mailto:a@b.c;" * 200]}
    return found
