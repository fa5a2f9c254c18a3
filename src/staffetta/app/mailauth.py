"""What `[checks]` and `dkim` of the configuration mean for those who examine and those who sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from staffetta.config.schema import Config
from staffetta.control.dkim import signing_sources
from staffetta.dns.list_health import ListHealth, ListSettings, ListState
from staffetta.intake.examination import ExaminingRoom
from staffetta.mail.network import NetworkSet
from staffetta.mailauth.dkim.keystore import KeyStore
from staffetta.mailauth.dkim.signers import Signers
from staffetta.observe.alarms import Alarms
from staffetta.policy.authentication import AuthenticationSettings, Mode

if TYPE_CHECKING:
    from staffetta.app.wiring import World


def signers_of(config: Config, clock: Callable[[], float]) -> Signers:
    """Who signs for the domains of a configuration. Reads nothing yet."""
    return Signers(KeyStore(config.data_dir), signing_sources(config), clock)


def examining_room(config: Config, world: World, alarms: Alarms, before: ExaminingRoom | None) -> ExaminingRoom | None:
    """What mail from outside is examined by; None when nothing is asked about it. `before`: of the configuration that
    was in force until now, whose knowledge of the lists goes on."""
    checks = config.checks
    settings = AuthenticationSettings(
        Mode(checks.spf.value),
        Mode(checks.dkim.value),
        Mode(checks.dmarc.value),
        Mode(checks.arc.value),
        frozenset(checks.forwarders),
        Mode(checks.reverse.value),
        Mode(checks.helo.value),
    )
    lists = tuple(
        ListSettings(one.zone.ascii, NetworkSet(one.codes), one.action.value, of_domains=of_domains)
        for of_domains, some in ((False, checks.blocklist), (True, checks.domain_blocklist))
        for one in some
    )
    about_message = (settings.spf, settings.dkim, settings.dmarc, settings.arc)
    # Names are worth a look only beside something else, unless mail is refused for them.
    wanted = lists or Mode.ENFORCE in {settings.reverse, settings.helo}
    if not wanted and all(mode is Mode.OFF for mode in about_message):
        return None

    def told(state: ListState) -> None:
        name = f"blocklist {state.zone}"
        if state.on:
            alarms.clear(name)
        else:
            alarms.sound(name, f"{state.zone} is not asked: {state.reason}")

    kept = before.health if before is not None and before.resolver is world.resolver else None
    health = kept or ListHealth(world.resolver, world.clock, told=told)
    return ExaminingRoom(
        world.resolver,
        settings,
        config.hostname.ascii,
        world.clock,
        world.monotonic,
        health,
        lists,
        seals=checks.arc_seal,
    )
