"""Where mail to a domain goes: MX, hosts, addresses, names, and what lists say of them.

RFC 5321 section 5.1, RFC 7505 (null MX), RFC 2181 section 10.3 (an MX host is no alias), RFC 8601 section 2.7.3.
"""

from __future__ import annotations

from collections.abc import Iterator

from staffetta.dns.list_meanings import meaning
from staffetta.mail.network import Network, NetworkSet, parse_network
from staffetta.policy.posture.facts import AddressFacts, DomainFacts, HostFacts
from staffetta.policy.posture.findings import Finding, Level, shown


def judge_hosts(facts: DomainFacts) -> Iterator[Finding]:
    """D002 and D101 to D108, D112."""
    domain, mx = facts.domain, facts.mx
    where, evidence = f"{domain} MX", ", ".join(mx.records) or "none"
    if mx.failure:
        return
    if not mx.exists:
        text = "the domain does not exist: nothing of any type stands in the DNS"
        yield Finding("D002", Level.FAULT, domain, "NXDOMAIN", "Register it, or look for a typing error.", text)
        return
    if mx.null and len(mx.records) == 1:
        text = "the domain says that it takes no mail (null MX)"
        yield Finding("D102", Level.NOTE, where, evidence, "Nothing, when that is meant.", text)
        return
    if mx.null:
        text = "a null MX stands beside others: some senders give up at once, some do not (RFC 7505 section 3)"
        yield Finding("D107", Level.FAULT, where, evidence, "Remove the record `0 .`, or all the others.", text)
    if mx.unusable:
        text = f"{mx.unusable} of the MX records name no host: an MX holds a name, never an address"
        yield Finding("D108", Level.FAULT, where, evidence, "Name a host that has an A or AAAA record.", text)
    if mx.implicit:
        text = "there is no MX: mail goes to the domain's own address, often a web server that takes none"
        line = f"{domain}. IN MX 10 {domain}."
        yield Finding("D103", Level.NOTE, where, evidence, f"Say so, or name the right host: {line}", text, line)
    elif not mx.hosts and not mx.unusable:
        text = "there is no MX and no address: mail to the domain is returned"
        line = f"{domain}. IN MX 0 ."
        yield Finding("D101", Level.FAULT, where, evidence, f"Publish its MX; if it takes no mail: {line}", text, line)
    for host in mx.hosts:
        yield from _host(facts, host)


def reaches(host: HostFacts) -> bool:
    """Whether somebody outside can connect to the host, as far as the DNS says."""
    return any(not address.denied for address in host.addresses)


def _host(facts: DomainFacts, host: HostFacts) -> Iterator[Finding]:
    where, name = f"{facts.domain} MX", shown(host.host)
    evidence = f"{host.preference} {name}"
    others = any(reaches(other) for other in facts.mx.hosts if other is not host)
    level = Level.WARNING if others else Level.FAULT
    if host.failure:
        text = f"the addresses of {name} are not known: the DNS does not answer ({shown(host.failure)})"
        yield Finding("D112", Level.WARNING, where, evidence, f"Look at the name servers of {name}.", text)
    elif not host.addresses:
        text = f"{name} has no address: nothing can be delivered there"
        advice = f"Give {name} an A or AAAA record, or take it out of the MX."
        yield Finding("D104", level, where, evidence, advice, text)
    if host.alias:
        text = f"{name} is an alias of {shown(host.alias)}; some servers refuse that (RFC 2181 section 10.3)"
        line = f"{facts.domain}. IN MX {host.preference} {host.alias}."
        yield Finding("D105", Level.WARNING, where, evidence, f"Name the host itself: {line}", text, line)
    for address in host.addresses:
        if address.denied:
            text = f"{name} has the address {address.address} ({address.denied}), which nobody outside reaches"
            advice = "Publish addresses of the open internet only."
            alone = level if not reaches(host) else Level.WARNING
            yield Finding("D106", alone, f"{name} A", address.address, advice, text)


def judge_addresses(facts: DomainFacts) -> Iterator[Finding]:
    """D110, D111, D113, D601 and D602: each address once, whatever hosts share it."""
    sends = _senders(facts)
    known: dict[str, tuple[HostFacts, AddressFacts]] = {}
    for host in facts.mx.hosts:
        for address in host.addresses:
            if not address.denied:
                known.setdefault(address.address, (host, address))
    for host, address in known.values():
        level = Level.WARNING if sends.contains(address.address) else Level.NOTE
        yield from _reverse(host, address, level)
        yield from _lists(address, level)


def _reverse(host: HostFacts, address: AddressFacts, level: Level) -> Iterator[Finding]:
    name, reverse, where = shown(host.host), address.reverse, f"{address.address} PTR"
    if reverse.temporary:
        text = f"the reverse name of {address.address} ({name}) is not known: the DNS does not answer"
        yield Finding("D113", Level.NOTE, where, "no answer", "Ask again later.", text)
        return
    role = "SPF lets it send, so receivers will hold that against it" if level is Level.WARNING else "it may not send"
    advice = f"Let whoever gives you the address name it {name}."
    if not reverse.name:
        text = f"{address.address} ({name}) has no reverse name; {role}"
        yield Finding("D110", level, where, "none", advice, text)
    elif not reverse.confirmed:
        text = f"{address.address} ({name}) has the name {shown(reverse.name)}, which does not lead back; {role}"
        yield Finding("D111", level, where, shown(reverse.name), advice, text)


def _lists(address: AddressFacts, level: Level) -> Iterator[Finding]:
    for listing in address.listings:
        where = f"{listing.zone} A"
        if listing.listed:
            words = [f"{code}: {meaning(listing.zone, code) or 'meaning not known'}" for code in listing.codes]
            fault = Level.FAULT if level is Level.WARNING else Level.WARNING
            text = f"{address.address} is listed in {listing.zone}"
            advice = f"Find out why and ask for removal where {listing.zone} explains it."
            yield Finding("D601", fault, where, shown("; ".join(words)), advice, text)
        elif listing.error:
            text = f"{listing.zone} says nothing that counts about {address.address}"
            advice = "Ask through a resolver of your own." if listing.fault else "Ask again later."
            yield Finding("D602", Level.NOTE, where, shown(listing.error), advice, text)


def _senders(facts: DomainFacts) -> NetworkSet:
    """The networks that SPF lets send."""
    networks: list[Network] = [parse_network(text) for text in facts.spf.networks]
    return NetworkSet(networks)


__all__ = ["judge_addresses", "judge_hosts", "reaches"]
