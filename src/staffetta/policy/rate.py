"""How often is too often: failed logins, and connections at the same time. Pure; the moment is an argument.

A client network is one IPv4 address or one IPv6 /64 (what one customer usually has). Failed logins are counted in a
sliding window, per network and per account:

- a network that failed `failures` times may not log in as anybody until its window has passed;
- an account that was failed `failures` times, from wherever, is under attack: networks that took part are shut out of
  it, unknown networks get one try each, and networks from which its owner has logged in before notice nothing.
  So guessing from many addresses gets one guess each, and nobody can lock an owner out from elsewhere.

Ask `judge` before the password is looked at, and again after it proved right: guesses made at the same time then gain
nothing, because a right one that comes after too many wrong ones is not honoured.
Memory is bounded: the oldest counters go first, so an attacker needs more networks than are remembered to hide.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

import msgspec

from staffetta.mail.address import fold_local_part
from staffetta.mail.network import address_number
from staffetta.mail.reply import reply
from staffetta.policy.verdict import Refusal

REMEMBERED_NETWORKS: Final = 20_000
REMEMBERED_ACCOUNTS: Final = 20_000
REMEMBERED_PAIRS: Final = 50_000
"""How many counters of each kind are kept."""

ACCOUNT_NAME_CHARACTERS: Final = 320
"""How much of a login name counts; longer ones are nobody's."""

IPV6_NETWORK_BITS: Final = 64
"""Length of the prefix that counts as one client."""

Key = TypeVar("Key")

_TOO_MANY_LOGINS: Final = reply(454, "4.7.0", "too many failed logins, try again later")
NETWORK_FAILED: Final = Refusal(_TOO_MANY_LOGINS, "login_failures_network", "too many failed logins from this network")
ACCOUNT_FAILED: Final = Refusal(
    _TOO_MANY_LOGINS, "login_failures_account", "the account is being guessed at, and this network took part"
)
TOO_MANY_CONNECTIONS: Final = Refusal(
    reply(421, "4.7.0", "too many connections from your network"),
    "connections_per_client",
    "the client's share is used",
)
FULL_HOUSE: Final = Refusal(reply(421, "4.3.2", "too many connections, try again later"), "connections", "all are used")


def client_network(address: str) -> str:
    """What `address` counts as: itself for IPv4 (mapped or not), its /64 for IPv6; other text stands for itself."""
    if ":" not in address:
        return address
    number = address_number(address)
    if number is None:
        return address
    version, value = number
    if version == 4:
        return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
    return f"{value >> IPV6_NETWORK_BITS:x}/{IPV6_NETWORK_BITS}"


class LoginLimits(msgspec.Struct, frozen=True, gc=False):
    """`[limits] login_failures` in `window_seconds`, and how long a network stays known after a login."""

    failures: int = 10
    window_seconds: float = 600.0
    known_seconds: float = 30 * 86_400.0


class LoginFailures:
    """The counters of failed logins of one relay."""

    __slots__ = ("_accounts", "_known", "_limits", "_networks", "_pairs")

    def __init__(self, limits: LoginLimits) -> None:
        self._limits = limits
        self._networks: OrderedDict[str, list[float]] = OrderedDict()
        self._accounts: OrderedDict[str, list[float]] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()

    def adopt(self, limits: LoginLimits) -> None:
        """Other limits hold from now on; what was counted stays."""
        self._limits = limits

    def take_over(self, other: LoginFailures) -> None:
        """Know what another knows."""
        self._networks, self._accounts = other._networks, other._accounts
        self._pairs, self._known = other._pairs, other._known

    def judge(self, client: str, account: str, now: float) -> Refusal | None:
        """May `client` (an IP address) log in as `account` ("" when not known yet)? None: yes."""
        network = client_network(client)
        if self._count(self._networks.get(network), now) >= self._limits.failures:
            return NETWORK_FAILED
        if not account or self._count(self._accounts.get(_name(account)), now) < self._limits.failures:
            return None
        pair = (_name(account), network)
        known_at = self._known.get(pair)
        if known_at is not None and now - known_at <= self._limits.known_seconds:
            return None
        return ACCOUNT_FAILED if self._count(self._pairs.get(pair), now) else None

    def failed(self, client: str, account: str, now: float) -> None:
        """A login failed, for whatever reason that a guesser could have caused."""
        network = client_network(client)
        self._add(self._networks, network, now, REMEMBERED_NETWORKS)
        if account:
            self._add(self._accounts, _name(account), now, REMEMBERED_ACCOUNTS)
            self._add(self._pairs, (_name(account), network), now, REMEMBERED_PAIRS)

    def succeeded(self, client: str, account: str, now: float) -> None:
        """The owner was here: the network is known to the account, and the owner's own slips are forgotten.

        The network's count stands, or an attacker could clear it with an account of his own.
        """
        pair = (_name(account), client_network(client))
        self._pairs.pop(pair, None)
        self._known[pair] = now
        self._known.move_to_end(pair)
        if len(self._known) > REMEMBERED_PAIRS:
            self._known.popitem(last=False)

    def _count(self, times: list[float] | None, now: float) -> int:
        if times is None:
            return 0
        since = now - self._limits.window_seconds
        return sum(since < time for time in times)

    def _add(self, counters: OrderedDict[Key, list[float]], key: Key, now: float, most: int) -> None:
        times = counters.get(key)
        if times is None:
            counters[key] = [now]
            if len(counters) > most:
                counters.popitem(last=False)
            return
        counters.move_to_end(key)
        times.append(now)
        # The newest `failures` say all there is to know.
        del times[: -max(1, self._limits.failures)]


def _name(account: str) -> str:
    return fold_local_part(account[:ACCOUNT_NAME_CHARACTERS])


class Connections:
    """How many are open, altogether and per client network. `enter` and `leave` are called in pairs."""

    __slots__ = ("_per_network", "most", "most_per_client", "open")

    def __init__(self, most: int, most_per_client: int) -> None:
        self.most = most
        self.most_per_client = most_per_client
        self.open = 0
        self._per_network: dict[str, int] = {}

    def adopt(self, most: int, most_per_client: int) -> None:
        """Other limits hold for whoever comes from now on."""
        self.most = most
        self.most_per_client = most_per_client

    def of(self, network: str) -> int:
        """How many a client network has open."""
        return self._per_network.get(network, 0)

    def enter(self, client: str) -> Refusal | None:
        """Count a connection of `client` (an IP address), or say why there is no room for it; then it is not counted
        and must not `leave`."""
        if self.open >= self.most:
            return FULL_HOUSE
        network = client_network(client)
        count = self._per_network.get(network, 0)
        if count >= self.most_per_client:
            return TOO_MANY_CONNECTIONS
        self._per_network[network] = count + 1
        self.open += 1
        return None

    def leave(self, client: str) -> None:
        """A counted connection is gone."""
        network = client_network(client)
        count = self._per_network.get(network, 0)
        if count == 0:
            raise ValueError("more connections left than entered")
        self.open -= 1
        if count == 1:
            del self._per_network[network]
        else:
            self._per_network[network] = count - 1
