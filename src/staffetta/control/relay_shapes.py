r"""Every shape in which strangers have ever asked for relaying: forms of recipients, senders, tricks with the state of
a session, and claims about oneself. One list for `check relay` and for the tests of the doors.

Collected from the scripts and lists that testers and abusers use (percent hack, bang paths, source routes, RFC 5321
appendix C and F.2), and from holes that programs have had. A form is the argument of RCPT without its line end. Most
forms that lead nowhere outside are here to be taken as a local part, and to stay one.
"""

from __future__ import annotations

import base64
from typing import Final

import msgspec


class Names(msgspec.Struct, frozen=True, gc=False):
    """Who is who in a trial. `user` is an address that exists here, or could; `local` and `outside` are domains.

    `outside` must be a domain of nobody, with a dot in it; `ours` and `address` are the relay's own name and address.
    """

    outside: str
    ours: str
    address: str
    local: str
    user: str


def senders(names: Names) -> dict[str, str]:
    """Paths of MAIL, brackets included, by what is tried with them."""
    return {
        "null": "<>",
        "external": f"<x@{names.outside}>",
        "local": f"<nobody@{names.local}>",
        "our name": f"<x@{names.ours}>",
        "our literal": f"<x@[{names.address}]>",
        "localhost": "<x@localhost>",
        "no domain": "<anna>",
        "forged local user": f"<{names.user}>",
    }


def forms(names: Names) -> list[str]:
    """Arguments of RCPT, all that there are."""
    return [f"TO:<{form}>" for form in bracketed(names)] + whole_arguments(names)


def bracketed(names: Names) -> list[str]:
    """Forms that go into angle brackets."""
    return [
        *_plain(names), *_rewriting(names), *_quoted(names), *_literals(names), *_edges(names), *_comments(names),
        *_encoded(names), *_beyond_ascii(names), *_for_programs(names),
    ]  # fmt: skip


def _plain(names: Names) -> list[str]:
    ext = names.outside
    return [f"u@{ext}", f"u@{ext}.", f"u@sub.{ext}", f"postmaster@{ext}", f"abuse@{ext}"]


def _rewriting(names: Names) -> list[str]:
    """What some servers rewrite: the percent hack, bang paths, source routes, several at signs."""
    ext, our, ip, local = names.outside, names.ours, names.address, names.local
    percent = [f"u%{ext}@{where}" for where in (local, our, f"[{ip}]")] + [f"u%{ext}"]
    bang = [f"{ext}!u", f"{ext}!u@{local}", f"{ext}!u@[{ip}]", f"{ext}!{local}!u", f"{local}!{ext}!u@{local}"]
    routes = [f"@{our}:u@{ext}", f"@[{ip}]:u@{ext}", f"@{our},@{ext}:u@{ext}", f"@{ext}:u@{local}%{ext}"]
    routes += [f"@{local}:u%{ext}@{local}", f"@{ext}:{names.user}", f"@{local}@{ext}:u@{local}"]
    double = [f"u@{ext}@{local}", f"u@{local}@{ext}", f"@{ext}@{local}", f"u@@{ext}", f"u@{local}@"]
    return [*percent, *bang, *routes, *double]


def _quoted(names: Names) -> list[str]:
    ext, ip, local = names.outside, names.address, names.local
    quoted = [f'"u@{ext}"', f'"u@{ext}"@{local}', f'"u@{ext}"@[{ip}]', f'"u%{ext}"@{local}', f'"u%{ext}"']
    quoted += [f'"u@{ext}"@{ext}', f'"@{ext}:u"@{local}', f'"{ext}!u"@{local}']
    escapes = [rf"u\@{ext}@{local}", rf'"u\"@{ext}>"@{local}', rf'"u\@{ext}"@{local}', rf"u\%{ext}@{local}"]
    return [*quoted, *escapes, rf'"u@{ext}\"@{local}', f'"u"x@{ext}"@{local}', rf'"\\"@{ext}@{local}"']


def _literals(names: Names) -> list[str]:
    ip = names.address
    bracketed = [ip, "203.0.113.25", "127.0.0.1", "IPv6:::1", "127.1", "0177.0.0.1"]
    bracketed += ["IPv6:::ffff:203.0.113.25", "0xcb.0.0.1", "3405803801", "::1", ""]
    bare = ["203.0.113.25", "3405803801", "0xcb007119", "[203.0.113.25", "203.0.113.25]"]
    return [f"u@[{address}]" for address in bracketed] + [f"u@{text}" for text in bare]


def _edges(names: Names) -> list[str]:
    """Empty parts, and outside names that begin or end like ours."""
    ext, our, local = names.outside, names.ours, names.local
    empty = ["u@", f"@{ext}", "u@.", f"u@{ext}..", f".u@{ext}", "", " ", "@", f"u@.{ext}", f"u.@{local}"]
    alike = [f"u@{local}.{ext}", f"u@evil{local}", f"u@{ext}%00.{local}", f"u@{ext}\0.{local}", f"u@{local}\0.{ext}"]
    alike += [f"u@{local}.", f"u@{local}.{our}", f"u@{ext}#{local}", f"u@{ext}/{local}", f"u@{ext}\t{local}"]
    lists = [f"u@{local},u@{ext}", f"u@{local};u@{ext}", f"u@{ext},{names.user}", f"u@{local} u@{ext}"]
    return [*empty, *alike, *lists]


def _comments(names: Names) -> list[str]:
    ext, local = names.outside, names.local
    return [f"u(c)@{ext}", f"u@(c){ext}", f"u@{local}({ext})", f"u({ext})@{local}", f"({ext})u@{local}"]


def _encoded(names: Names) -> list[str]:
    """Encoded words, which some libraries decode inside addresses."""
    ext, local = names.outside, names.local
    hidden = base64.b64encode(f"u@{ext}".encode()).decode()
    return [f"=?utf-8?q?u=40{ext}=3e?=@{local}", f'"x@{ext} y"@{local}', f"=?utf-8?b?{hidden}?=@{local}"]


def _beyond_ascii(names: Names) -> list[str]:
    """Characters that fold into syntax, or that nobody sees."""
    ext, local = names.outside, names.local
    first, _, rest = ext.partition(".")
    found = [f"u\uff20{ext}", f"u\uff20{ext}@{local}", f"u@{local}\uff0e{ext}", f"u@{first}\u3002{rest}"]
    found += [f"u@{first}.\u200d{rest}", f"u@{first[:2]}\u00ad{first[2:]}.{rest}", f"u@xn--{ext}", f"u@\u212a{ext}"]
    found += [f"u@{local.replace('e', chr(0x435))}", f"\u00fc@{ext}", f"u@b\u00fc{ext}", f"u@{ext}\u2024{local}"]
    return [*found, f"u\ufe6b{ext}@{local}"]


def _for_programs(names: Names) -> list[str]:
    """Pipes, files, options and templates: local parts that must reach no shell and no path."""
    ext, local = names.outside, names.local
    found = [f"|/bin/sh@{local}", f'"|/bin/sh -c mail u@{ext}"@{local}', f"/etc/passwd@{local}"]
    found += [f'":include:/etc/x"@{local}', f"-f{ext}@{local}", f"-oQ/tmp@{local}", f"`id`@{local}", f"$(id)@{local}"]
    found += [f"${{run{{id}}}}@{local}", f'"../../../../tmp/x"@{local}', f'".."@{local}', f"%s%n@{local}"]
    found += [f"{{{{7*7}}}}@{local}", f'"; mail u@{ext}"@{local}', f'"u@{ext}, u"@{local}', f'" "@{local}']
    return [*found, f"{'u' * 64}@{local}", f'"/../new/x"@{local}']


def whole_arguments(names: Names) -> list[str]:
    """Forms that are the whole argument of RCPT: two paths, missing and doubled brackets, text behind."""
    ext, local = names.outside, names.local
    one, two = f"<u@{ext}>", f"<{names.user}>"
    return [
        f"TO:{two}{one}", f"TO:{two} {one}", f"TO:{one}{two}", f"TO:{two},{one}", f"TO:{two}>{one}", f"TO:<{one}>",
        f"TO:<{two}", f"TO:u@{ext}", f"TO: u@{ext}", f"TO:<u@{ext}", f"TO:u@{ext}>", f"TO:<u@{ext}> ", f"TO:\t{one}",
        f"TO:{two} ORCPT=rfc822;u@{ext}", f"TO:{two} u@{ext}", f"TO:<u@{local}>@{ext}>",
        f"TO:<u@{local}> FORWARD=u@{ext}",
        f"TO:<<u@{ext}>>", f"TO:<u@{ext}\r>", f"to:{one}", f"TO:{one} AUTH=<>", f"To:<u@{ext}>{two}", "TO:", "TO:<>",
        f"FROM:{one}", f"TO:(c){one}", f"TO:{two}(c)", f'TO:"{two}" {one}', f"TO :{one}", f"TO={one}", f"TO:[{one}]",
    ]  # fmt: skip


def tricks(names: Names) -> list[list[str]]:
    """Lines of one session each, after EHLO. The last DATA, if it is allowed, must not be for anybody outside."""
    ext, user = names.outside, names.user
    out, ours, mail = f"RCPT TO:<u@{ext}>", f"RCPT TO:<{user}>", f"MAIL FROM:<x@{ext}>"
    guess = base64.b64encode(f"\0{user}\0secret".encode()).decode()
    return [
        [f"MAIL FROM:<nobody@{names.local}>", out, ours, "DATA"],
        [mail, ours, "RSET", out, "DATA"],
        [mail, "EHLO again", out, "DATA"],
        [mail, ours, "HELO again", out, "DATA"],
        [mail, out, "BDAT 4 LAST", "x"],
        [mail, ours, "BDAT 3", "x", out, "BDAT 0 LAST"],
        [mail, "BDAT 3", "x", out, "DATA"],
        [mail, f"AUTH PLAIN {guess}", out, "DATA"],
        ["AUTH PLAIN =", mail, out, "DATA"],
        [mail, f"MAIL FROM:<{user}>", out, "DATA"],
        [mail, ours, "DATA", "x", ".", out, "DATA"],
        [mail, ours, "DATA", "x\n", ".", out, "DATA"],
        [out, "DATA"],
        [f"VRFY u@{ext}", f"EXPN u@{ext}", mail, out, "DATA"],
        [f"SEND FROM:<x@{ext}>", f"SAML FROM:<x@{ext}>", out, "DATA"],
        [f"ETRN {ext}", f"{mail} AUTH=<{user}>", out, "DATA"],
        [mail, f"NOOP u@{ext}", f"{out} NOTIFY=NEVER", "DATA"],
        ["AUTH LOGIN", "*", mail, out, "DATA"],
        ["STARTTLS", mail, out, "DATA"],
    ]


def claims(names: Names) -> dict[str, list[str]]:
    """What a client may say of itself after EHLO, by the name of the trick."""
    return {
        "XCLIENT": [f"XCLIENT ADDR=127.0.0.1 NAME=localhost LOGIN={names.user}", "EHLO localhost"],
        "XFORWARD": ["XFORWARD ADDR=127.0.0.1 NAME=localhost SOURCE=LOCAL", "EHLO localhost"],
        "AUTH=": [],
        "EHLO our name": [f"EHLO {names.ours}"],
        "EHLO loopback": ["EHLO [127.0.0.1]"],
        "EHLO trusted": ["EHLO [198.51.100.9]"],
        "HELO trusted": ["HELO [198.51.100.9]"],
        "PROXY later": ["PROXY TCP4 127.0.0.1 192.0.2.25 1 1025"],
    }


def claiming_senders(names: Names) -> list[str]:
    """Arguments of MAIL behind `FROM:` that go with `claims`."""
    ext = names.outside
    return ["<>", f"<x@{ext}>", f"<{names.user}> AUTH={names.user}", f"<x@{ext}> AUTH=<>"]


PROXY_V1: Final = b"PROXY TCP4 127.0.0.1 192.0.2.25 1 1025\r\n"
PROXY_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([127, 0, 0, 1, 192, 0, 2, 25, 0, 1, 4, 3])
PROXY_V2_LOCAL: Final = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
PROXY_HEADERS: Final = {
    "v1": PROXY_V1,
    "v2": PROXY_V2,
    "v2 local": PROXY_V2_LOCAL,
    "v1 unknown": b"PROXY UNKNOWN\r\n",
}
"""Headers by which somebody who is no listed proxy would bring a client that is trusted."""

FORGED_HEADER: Final = (
    b"Received: from localhost ([127.0.0.1]) by mx.example.org with ESMTPA; Mon, 21 Sep 2026 14:13:20 +0000\r\n"
    b"X-Forwarded-For: 127.0.0.1\r\nX-Originating-IP: [127.0.0.1]\r\nX-Authenticated-Sender: anna@example.org\r\n"
)
"""A header that claims that the message was here before and was allowed."""
