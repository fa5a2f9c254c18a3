"""The codes of configuration problems: stable, never reused. C1xx syntax and keys, C2xx meaning, C3xx files.

`staffetta help CODE` prints the explanation; the code decides whether a problem is an error or a warning.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.config.problems import Level


class Code(msgspec.Struct, frozen=True, gc=False):
    """One code: its level, a title, and an explanation of a few sentences."""

    level: Level
    title: str
    explanation: str


def _error(title: str, explanation: str) -> Code:
    return Code(Level.ERROR, title, explanation)


def _warning(title: str, explanation: str) -> Code:
    return Code(Level.WARNING, title, explanation)


CODES: Final[dict[str, Code]] = {
    "C101": _error(
        "not TOML",
        "The file cannot be read as TOML, so nothing in it was checked. Text stands in double quotes, lists in square"
        " brackets with commas, true and false in lower case, one key = value on a line.",
    ),
    "C102": _error(
        "unknown table",
        'A [table] of this name does not exist. Doors are [listen.NAME], local domains [domain."D"], roads to other'
        " servers [route.NAME]; the reference lists all tables.",
    ),
    "C103": _error(
        "unknown key",
        "A key of this name does not exist in this table. It may be misspelt, or belong to another table; the message"
        " says which. Unknown keys are errors because a misspelt limit or a misspelt check would silently be none.",
    ),
    "C104": _error(
        "wrong type",
        "The value is of another type than the key takes: text in quotes, whole numbers and true or false without,"
        " lists in square brackets even when they have one element.",
    ),
    "C105": _error("missing key", "A key that has no sensible default is not written. The message says what it takes."),
    "C106": _error(
        "malformed value",
        'The text cannot be read as what the key takes. Durations are "30s", "5m", "4h", "5d"; sizes "64KiB",'
        ' "25MiB"; rates "80/s", "500/h"; networks "192.0.2.0/24" or "192.0.2.1-192.0.2.9".',
    ),
    "C107": _error("out of range", "The value is of the right type, but smaller or larger than makes sense."),
    "C108": _error("unknown word", "The key takes one of a few words, and this is none of them."),
    "C109": _error(
        "version of the file",
        "The file begins with `version = 1`, so that a later Staffetta knows which grammar it was written in.",
    ),
    "C110": _error("the file cannot be read", "It is missing, unreadable for this account, not UTF-8, or too large."),
    "C111": _error("written twice", "A key or table may be written once; which of the two would hold is a guess."),
    "C112": _error(
        "invisible character",
        "A value has a control character or a character that is not seen. It would end up in protocol lines and logs.",
    ),
    "C113": _error(
        "name of a table",
        'Doors, routes and domains have a name in their header: [listen.mx], [route.office], [domain."example.org"].'
        " A name with a dot stands in quotes, otherwise TOML reads each part as a table of its own.",
    ),
    "C114": _error(
        "unknown variable",
        "Variables that begin with STAFFETTA_ stand for keys of the file: STAFFETTA_LOG_LEVEL is [log] level, and"
        " STAFFETTA_ROUTE_DEFAULT_VIA is via of [route.default]. Doors and routes are those of the file. Unknown ones"
        " are errors because a misspelt limit would silently be none.",
    ),
    "C115": _error(
        "variable and its file",
        "A secret comes from the variable or from the file that its twin with _FILE names. Which of the two would hold"
        " is a guess, and a changed password would seem to have no effect.",
    ),
    "C116": _warning(
        "quotes in a variable",
        "Quotes around a value belong to the shell. A file of variables that no shell reads, as for containers and"
        " service managers, often keeps them, and then they are part of the value.",
    ),
    "C117": _warning(
        "empty variable",
        "The variable is set to nothing, so the file or the default holds, as if it were not set.",
    ),
    "C201": _error(
        "login without TLS",
        "A password that travels in clear belongs to everybody on the way. Login is offered under TLS only: set tls, or"
        " auth = false on a door that needs no login.",
    ),
    "C202": _error(
        "trusts the world",
        "Everybody may send anywhere through this door: an open relay, found by spammers within hours and blocked by"
        " everybody else soon after. Trust the networks of your own machines only.",
    ),
    "C203": _warning(
        "trusts a very wide network",
        "The network has more than 16 million IPv4 addresses or is wider than an IPv6 /16. Every machine in it may send"
        " anywhere without login.",
    ),
    "C204": _error(
        "has no place in this role",
        "The key contradicts the role. An mx door takes mail for local domains from anyone, so it trusts nobody and"
        " rewrites no sender; trust belongs to relay doors; a submission door always asks for a login.",
    ),
    "C205": _error(
        "two doors on one address",
        "Only one listener can have an address and port. `*` is every address, so it overlaps with each of them.",
    ),
    "C206": _error("a door nobody can pass", "No network is trusted and no login is offered: every sender is refused."),
    "C207": _error(
        "can never match",
        "Routes are tried in the order of the file and the first match wins; a recipient in a local domain takes no"
        " route. Move the narrower route up, or remove it.",
    ),
    "C208": _warning("part can never match", "Some of what the rule names is taken by an earlier one."),
    "C209": _warning(
        "TLS and port do not fit",
        "By custom port 465 begins with TLS (implicit), ports 25 and 587 begin in clear and switch (starttls). The"
        " other side speaks first in clear, or waits for TLS, and both hang.",
    ),
    "C210": _warning(
        "hostname is also a local domain",
        "The machine and the mail domain have the same name. Mail for this name stays on this machine; if another"
        " server (the MX, an inner server, a smarthost) also sends mail for it here, it goes round in a loop. Usual is"
        ' hostname = "mail.example.org" and [domain."example.org"].',
    ),
    "C211": _error(
        "no usable hostname",
        "The name in greeting, EHLO and Received must be a domain name. The machine's own name is none, so write one:"
        ' hostname = "mail.example.org", a name whose address is this machine.',
    ),
    "C212": _error(
        "a loop",
        "Mail would be handed to this very relay, which hands it to itself again, until the limit of hops ends it.",
    ),
    "C213": _error("login and password go together", "One without the other logs in nowhere. Leave both out for none."),
    "C214": _error(
        "password over an unprotected line",
        "With tls off or opportunistic, anybody on the way can take the password by breaking TLS. Use verify, or"
        " implicit on port 465.",
    ),
    "C215": _error(
        "TLS level does not fit the next hop",
        "Implicit TLS does not exist on port 25, where servers found by MX listen.",
    ),
    "C216": _error(
        "domain written twice",
        "Two spellings of one domain: case does not count, and bücher.example is xn--bcher-kva.example.",
    ),
    "C217": _error(
        "alias loop",
        "The aliases lead back to themselves. An alias may name its own"
        " account (a copy stays), not another alias that leads back.",
    ),
    "C218": _error("alias written twice", "Local parts of a local domain are compared without case."),
    "C219": _warning("has no effect", "Another setting makes that this one is never looked at."),
    "C220": _warning("odd retry waits", "Waits between attempts usually grow, and end before the message expires."),
    "C221": _warning(
        "lifetimes do not fit",
        "The times of the queue contradict one another: something would never happen, or happen too late.",
    ),
    "C222": _warning(
        "tighter than mail expects",
        "RFC 5321 section 4.5.3.1 asks every server to take messages of 64 KiB and 100 recipients at a time.",
    ),
    "C223": _error(
        "everybody may claim an address",
        "A peer in proxy_protocol says who the client is, and is believed. If every peer may, trust, limits and block"
        " lists of client addresses mean nothing. Name the addresses of the load balancer.",
    ),
    "C224": _warning(
        "console on a public address",
        "Console, API and metrics can be reached from outside this machine. Bind to loopback and use a tunnel or a"
        " proxy that asks who is there.",
    ),
    "C225": _warning(
        "delivery may reach everything",
        "Loopback and private networks are closed for MX delivery, so that a stranger's DNS record cannot point this"
        " relay at your own machines. allow opens all of them.",
    ),
    "C226": _error(
        "source and next hop are of different families",
        "An IPv6 address cannot reach an IPv4 one, nor the reverse: give an address of each family that is needed.",
    ),
    "C227": _warning(
        "DMARC has nothing to rest on",
        "DMARC passes when SPF or DKIM does. With both off every message fails it.",
    ),
    "C228": _error(
        "[route.default] does not take everything",
        "default is the name of the last route, which takes what no other takes. A route for some recipients needs"
        " another name.",
    ),
    "C229": _warning(
        "takes no mail", "The relay runs, but nothing can come in: write a door, and a domain for its mail."
    ),
    "C230": _warning(
        "hostname without a domain",
        "Many servers refuse mail from a name like this one. It should be a full name whose address is this machine.",
    ),
    "C231": _warning(
        "password to a server that is not verified",
        'With tls = "require" the line is encrypted but the other end may be anybody. Use verify.',
    ),
    "C301": _error(
        "no such file",
        "A path is relative to the folder of the configuration file, not to where the program was started.",
    ),
    "C302": _error(
        "file cannot be read",
        "The account that runs Staffetta needs the right to read it and to pass through each folder above it.",
    ),
    "C303": _error("not what it should be", "Certificates and keys are PEM files: text between BEGIN and END lines."),
    "C304": _error(
        "key and certificate do not belong together",
        "The private key is another one than the first certificate of the file was made for. In a chain, the server's"
        " own certificate comes first.",
    ),
    "C305": _warning(
        "certificate is not valid now", "It has expired or begins later; peers that verify will refuse it."
    ),
    "C306": _error("certificate and key go together", "One without the other is no TLS. Leave both out for none."),
    "C307": _error(
        "TLS without a certificate",
        "This door needs TLS: write certificate and key in [tls].",
    ),
    "C308": _warning(
        "others can read a secret",
        "Every account of this machine can read the file. Only its owner should.",
    ),
    "C309": _warning(
        "password in a file that others can read",
        'Put the password into a file of its own ("file:PATH"), or close the configuration file to others.',
    ),
    "C310": _error("environment variable is not set", "The secret is to come from a variable that does not exist."),
    "C311": _error(
        "empty secret", "The file or variable is there, but has no text. An empty password logs in nowhere."
    ),
    "C312": _warning(
        "certificate is for another name",
        "Clients and servers that verify compare the name they connect to with those in the certificate.",
    ),
    "C313": _warning("weak key", "RSA keys under 2048 bits are refused by many and can be broken."),
    "C314": _error("no such account", "The account to become after binding ports does not exist on this machine."),
    "C315": _error("not a folder", "data_dir is the folder for everything that must survive."),
    "C316": _error(
        "key has a passphrase",
        "Nobody is there to type it at start. Store the key without one, readable by its owner only.",
    ),
    "C317": _warning(
        "odd text in a secret",
        "Quotes and blanks around the text are part of the secret. Files of variables often keep the quotes.",
    ),
    "C318": _warning(
        "a path as password",
        'The text itself is the password. If the password stands in that file, write "file:PATH".',
    ),
    "C319": _warning("mail comes in clear", "Without [tls] a door that others deliver to offers no TLS."),
    "C401": _error(
        "port in use",
        "Another program listens there, and two cannot. `run` tries all addresses before it starts, `config check"
        " --live` at any time; what the running relay of this data_dir holds is no mistake. `ss -ltnp` says who it is.",
    ),
    "C402": _error(
        "cannot listen there",
        "The system refuses the address: most often this machine does not have it, or not yet. `*` is all addresses.",
    ),
    "C403": _warning(
        "port was not tried",
        "Ports below 1024 are for root, for who may bind them, or come from the service manager. This account has none,"
        " so whether the port is free was not found out.",
    ),
    "C404": _warning("the console has no port", "Its default address is taken, so the relay runs without a console."),
    "C405": _warning(
        "no answer from the DNS",
        "No server answered at all. In a container the reason is usually that it has no resolver: name one in [dns]"
        " servers. Mail waits until one answers; it is not returned.",
    ),
    "C406": _warning(
        "hostname is not in the DNS",
        "Other servers look for an address of the name that we greet with, and many refuse mail where there is none.",
    ),
    "C407": _warning(
        "a route does not take mail now",
        "One step of a delivery failed, and may pass later; mail waits meanwhile. `staffetta check upstream ROUTE`"
        " tells each step.",
    ),
    "C408": _error(
        "a route takes no mail",
        "One step of a delivery was refused for good: the login, the certificate, or the next hop's rules. `staffetta"
        " check upstream ROUTE` tells each step.",
    ),
    "C409": _warning("disk nearly full", "New mail is refused for now when nothing can be written any more."),
}
