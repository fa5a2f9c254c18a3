"""What `explain route` says of the end of the way: what receivers will find in SPF, DKIM and DMARC.

The same forecast that a running relay makes for mail it takes (see `mailauth.forecast`), for the sender that is named.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from staffetta.config.schema import Config, DkimMode
from staffetta.control.check_domain_keys import our_keys
from staffetta.control.explain_route import RouteReport
from staffetta.control.filters import route_of
from staffetta.delivery.road import Road
from staffetta.dns.denied import why_denied
from staffetta.dns.mx import find_addresses
from staffetta.dns.resolver import Resolver, Unavailable
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.mail.domain import Domain
from staffetta.mail.network import NetworkSet
from staffetta.mailauth.dkim.record import KeyRecord, read_record
from staffetta.mailauth.forecast import Forecast, ForecastKey, ForecastQuestion, forecast


async def with_forecast(
    config: Config, resolver: Resolver, road: Callable[[str], Road | None], sender: ReversePath, report: RouteReport
) -> RouteReport:
    """The report with a forecast for each way that leads outside; nothing is said of the null path, which is nobody's.

    Nothing is known of the header, so From is taken to be of the sender's domain.
    """
    if not isinstance(sender, Mailbox) or not isinstance(sender.domain, Domain):
        return report
    roads = [road(one.destination) for one in report.targets if route_of(one.destination) != "local"]
    ways = dict.fromkeys(_way(one) for one in roads if one is not None)
    said: dict[str, None] = {}
    for sources, via in ways:
        addresses = sources if sources or via else await _own_addresses(config, resolver)
        question = ForecastQuestion(
            sender.domain.ascii,
            sender.domain.ascii,
            config.hostname.ascii,
            addresses,
            _keys(config, sender.domain),
            via,
        )
        said[words(await forecast(resolver, question))] = None
    return msgspec.structs.replace(report, forecast=tuple(said))


def words(found: Forecast) -> str:
    """A forecast for people."""
    return f"SPF {found.spf}, DKIM {found.dkim}, DMARC {found.dmarc}: {found.sentence}"


def _way(road: Road) -> tuple[tuple[str, ...], str]:
    """The addresses it leaves from, or the host it goes through: that one sends on from addresses of its own."""
    via = road.hops[0].host if road.hops else ""
    return (() if via else road.sources), via


async def _own_addresses(config: Config, resolver: Resolver) -> tuple[str, ...]:
    """Mail leaves by an address of the system's choice: most likely one that our own name has."""
    found = await find_addresses(resolver, config.hostname.ascii)
    allow = NetworkSet(config.outbound.allow)
    return () if isinstance(found, Unavailable) else tuple([one for one in found if why_denied(one, allow) is None])


def _keys(config: Config, domain: Domain) -> tuple[ForecastKey, ...]:
    """The keys that sign for the domain."""
    if not any(one.domain == domain and one.dkim is not DkimMode.OFF for one in config.domains):
        return ()
    found: list[ForecastKey] = []
    for key in our_keys(config, domain)[0]:
        record = read_record(key.record.encode())
        if key.signs and isinstance(record, KeyRecord):
            found.append(ForecastKey(domain.ascii, key.selector, record.algorithm, key.record))
    return tuple(found)
