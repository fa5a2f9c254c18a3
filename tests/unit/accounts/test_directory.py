"""Who exists, and where mail for a name goes: one row a sentence."""

from __future__ import annotations

import pytest

from staffetta.accounts.directory import ALIAS_DEPTH, ALIAS_TARGETS, Directory, LocalDomain
from staffetta.mail.address import POSTMASTER, Mailbox, parse_mailbox
from staffetta.mail.domain import parse_domain
from staffetta.policy.relay import Place

ACCOUNTS = {
    parse_mailbox(text)
    for text in (
        "anna@example.com",
        "bob@example.com",
        "team+eu@example.com",
        "self@example.com",
        "c@example.com",
        "postmaster@mailed.example",
        "carol@second.example",
    )
}


def domain(name: str, **rest: object) -> LocalDomain:
    return LocalDomain(parse_domain(name), **rest)  # type: ignore[arg-type]


DOMAINS = [
    domain(
        "example.com",
        aliases={
            "sales": ("anna", "bob"),
            "both": ("sales", parse_mailbox("x@outside.example")),
            "self": ("self", parse_mailbox("self@outside.example")),
            "ping": ("pong",),
            "pong": ("ping",),
            "ghost": ("nobody",),
            "half": ("nobody", "anna"),
            "cross": (parse_mailbox("carol@second.example"),),
            "tagged": ("anna+tag",),
            "loop+tag": ("loop+tag",),
            "c": ("bob",),
            "left": ("c",),
            "right": ("c",),
            "diamond": ("left", "right"),
        },
    ),
    domain("second.example", catch_all="carol", separator="-"),
    domain("any.example", any_recipient=True, aliases={"self": ("self", "other")}),
    domain("mailed.example", separator=""),
    domain("aliased.example", aliases={"abuse": (parse_mailbox("anna@example.com"),)}),
    domain("lost.example", catch_all="nobody"),
]
DIRECTORY = Directory(DOMAINS, ACCOUNTS.__contains__)

ROWS = [
    # name -> rule: targets (`!` stands for: under the data directory)
    ("anna@example.com", "account: anna@example.com"),
    ("ANNA@example.com", "account: ANNA@example.com"),
    ("anna+list@example.com", "account: anna+list@example.com"),
    ("Anna+A+B@example.com", "account: Anna+A+B@example.com"),
    ("team+eu@example.com", "account: team+eu@example.com"),
    ("team+us@example.com", "unknown"),
    ("+anna@example.com", "unknown"),
    ("annabel@example.com", "unknown"),
    ("anna@sub.example.com", "outside"),
    ("anna@elsewhere.example", "outside"),
    ("anna@[192.0.2.1]", "outside"),
    # aliases: to several, through others, outside, with and without detail
    ("sales@example.com", "alias: anna@example.com bob@example.com"),
    ("SALES+x@example.com", "alias: anna@example.com bob@example.com"),
    ("both@example.com", "alias: anna@example.com bob@example.com x@outside.example"),
    ("cross@example.com", "alias: carol@second.example"),
    ("tagged@example.com", "alias: anna+tag@example.com"),
    # an alias that names itself keeps a copy; circles and dead ends lead nowhere
    ("self@example.com", "alias: self@example.com self@outside.example"),
    ("self+x@example.com", "alias: self@example.com self@outside.example"),
    ("ping@example.com", "unknown"),
    ("loop+tag@example.com", "unknown"),
    ("ghost@example.com", "unknown (nobody@example.com)"),
    ("half@example.com", "alias: anna@example.com (nobody@example.com)"),
    # an alias met twice is walked once, and its account gets no copy it was not given
    ("diamond@example.com", "alias: bob@example.com"),
    # catch-all and another separator
    ("whoever@second.example", "catch_all: carol@second.example"),
    ("carol-x@second.example", "account: carol-x@second.example"),
    ("carol+x@second.example", "catch_all: carol@second.example"),
    ("whoever@lost.example", "unknown (nobody@lost.example)"),
    ("nobody@lost.example", "unknown"),
    # everybody exists
    ("whoever@any.example", "any: whoever@any.example"),
    ("self@any.example", "alias: self@any.example other@any.example"),
    # the roles exist everywhere
    ("postmaster@example.com", "postmaster: !postmaster@example.com"),
    ("PostMaster@example.com", "postmaster: !postmaster@example.com"),
    ("abuse@example.com", "postmaster: !postmaster@example.com"),
    ("postmaster@mailed.example", "account: postmaster@mailed.example"),
    ("abuse@mailed.example", "postmaster: postmaster@mailed.example"),
    ("postmaster+x@mailed.example", "unknown"),
    ("abuse@aliased.example", "alias: anna@example.com"),
    ("postmaster@second.example", "postmaster: !postmaster@second.example"),
    ("postmaster@any.example", "any: postmaster@any.example"),
    ("postmaster@elsewhere.example", "outside"),
]


def written(directory: Directory, path: Mailbox) -> str:
    found = directory.resolve(path)
    assert (found.place is Place.LOCAL) == bool(found.targets)
    for target in found.targets:
        assert bool(target.destination) == directory.is_local(target.mailbox.domain)
    text = found.rule
    if found.targets:
        names = [f"{'!' if one.destination.startswith('held:') else ''}{one.mailbox}" for one in found.targets]
        text += ": " + " ".join(names)
    if found.missing:
        text += f" ({' '.join(str(one) for one in found.missing)})"
    return text


@pytest.mark.parametrize(("name", "expected"), ROWS)
def test_resolve(name: str, expected: str) -> None:
    assert written(DIRECTORY, parse_mailbox(name)) == expected


@pytest.mark.parametrize(
    ("postmaster", "name", "expected"),
    [
        ("anna@example.com", "postmaster@second.example", "postmaster: anna@example.com"),
        ("anna@example.com", "abuse@example.com", "postmaster: anna@example.com"),
        ("anna@example.com", "postmaster@mailed.example", "account: postmaster@mailed.example"),
        ("anna@example.com", "abuse@aliased.example", "alias: anna@example.com"),
        ("boss@outside.example", "postmaster@example.com", "postmaster: boss@outside.example"),
        # a postmaster that is itself the role, or nobody: the mailbox of last resort
        ("postmaster@example.com", "abuse@second.example", "postmaster: !postmaster@example.com"),
        ("postmaster@example.com", "postmaster@example.com", "postmaster: !postmaster@example.com"),
        ("nobody@example.com", "abuse@example.com", "postmaster: !postmaster@example.com (nobody@example.com)"),
    ],
)
def test_the_configured_postmaster(postmaster: str, name: str, expected: str) -> None:
    directory = Directory(DOMAINS, ACCOUNTS.__contains__, parse_mailbox(postmaster))
    assert written(directory, parse_mailbox(name)) == expected


def test_postmaster_without_a_domain() -> None:
    anna = parse_mailbox("anna@example.com")
    host = parse_domain("mx.example.com")
    assert [str(one.mailbox) for one in DIRECTORY.resolve(POSTMASTER).targets] == ["postmaster@example.com"]
    assert [one.mailbox for one in Directory([], bool, anna, host).resolve(POSTMASTER).targets] == [anna]
    alone = Directory([], bool, None, host).resolve(POSTMASTER)
    assert [(str(one.mailbox), one.destination) for one in alone.targets] == [
        ("postmaster@mx.example.com", "held:mx.example.com")
    ]


def test_deep_and_wide_aliases_end() -> None:
    deep = {f"a{number}": (f"a{number + 1}",) for number in range(5000)}
    wide = {"wide": tuple(parse_mailbox(f"x{number}@outside.example") for number in range(ALIAS_TARGETS + 50))}
    bomb = {f"b{number}": (f"b{number + 1}", f"b{number + 1}+x") for number in range(40)}
    directory = Directory([domain("example.com", aliases=deep | wide | bomb)], lambda _: False)
    assert directory.resolve(parse_mailbox("a0@example.com")).place is Place.UNKNOWN
    assert len(directory.resolve(parse_mailbox("wide@example.com")).targets) == ALIAS_TARGETS
    assert directory.resolve(parse_mailbox("b0@example.com")).place is Place.UNKNOWN
    reachable = Directory(
        [domain("example.com", aliases=deep)], {parse_mailbox(f"a{ALIAS_DEPTH}@example.com")}.__contains__
    )
    del deep[f"a{ALIAS_DEPTH}"]
    assert reachable.resolve(parse_mailbox("a0@example.com")).place is Place.LOCAL


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("Anna@example.com", "anna@example.com"),
        ("ANNA+x@example.com", "anna@example.com"),
        ("team+eu@example.com", "team+eu@example.com"),
        ("someone+x@any.example", "someone@any.example"),
        ("+x@any.example", "+x@any.example"),
        ("carol-x@second.example", "carol@second.example"),
        ("carol+x@second.example", "carol+x@second.example"),
        ("postmaster@example.com", "postmaster@example.com"),
    ],
)
def test_whose_folder(name: str, owner: str) -> None:
    assert DIRECTORY.owner(parse_mailbox(name)) == parse_mailbox(owner)


@pytest.mark.parametrize(
    ("login", "aliases"),
    [
        ("anna@example.com", "both half sales tagged"),
        ("Bob@example.com", "both c diamond left right sales"),
        ("self@example.com", "self"),
        ("c@example.com", "diamond left right"),
        ("nobody-special@example.com", ""),
    ],
)
def test_rights_of_a_login(login: str, aliases: str) -> None:
    rights = DIRECTORY.rights(parse_mailbox(login))
    at_home = {one.local_part for one in rights.addresses if str(one.domain) == "example.com"}
    assert at_home == set(aliases.split())
    assert rights.own == parse_mailbox(login).folded()


def test_rights_from_aliases_of_other_domains_and_from_grants() -> None:
    grants = (parse_mailbox("Boss@partner.example"), parse_domain("shop.example"))
    rights = DIRECTORY.rights(parse_mailbox("anna@example.com"), grants)
    for allowed in ("abuse@aliased.example", "boss@partner.example", "any@shop.example", "anna+x@example.com"):
        assert rights.covers(parse_mailbox(allowed)), allowed
    for refused in ("bob@example.com", "abuse@example.com", "boss@sub.partner.example", "anna-x@example.com"):
        assert not rights.covers(parse_mailbox(refused)), refused
    assert DIRECTORY.rights(parse_mailbox("carol@second.example")).covers(parse_mailbox("carol-x@second.example"))
    assert not DIRECTORY.rights(parse_mailbox("carol@second.example")).covers(parse_mailbox("carol+x@second.example"))
    # a catch-all takes mail; it does not give names
    assert not DIRECTORY.rights(parse_mailbox("carol@second.example")).covers(parse_mailbox("w@second.example"))
    # a login whose domain is not served here has no sub-addresses: nobody said how they would look
    assert not DIRECTORY.rights(parse_mailbox("x@elsewhere.example")).covers(parse_mailbox("x+y@elsewhere.example"))
