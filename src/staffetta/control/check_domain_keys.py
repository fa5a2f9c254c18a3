"""The keys of this relay that a check of a domain compares with the DNS. Reads; makes nothing."""

from __future__ import annotations

from staffetta.config.schema import Config, DkimKey, LocalDomain
from staffetta.control.check_domain_gather import OurKey
from staffetta.control.place import NotAllowed, NothingThere, as_owner
from staffetta.mail.domain import Domain
from staffetta.mailauth.dkim.keys import KeyPhase
from staffetta.mailauth.dkim.keystore import KeyStore, KeysUnusable, read_key
from staffetta.mailauth.dkim.record import write_record


def our_keys(config: Config, domain: Domain) -> tuple[tuple[OurKey, ...], str]:
    """The keys of a domain, those of the store and its own, and why they could not be read, or ""."""
    local = next((one for one in config.domains if one.domain == domain), None)
    try:
        with as_owner(config.data_dir):
            return _read(config, domain, local), ""
    except NothingThere:
        return (), ""
    except (KeysUnusable, NotAllowed) as error:
        return (), str(error)


def _read(config: Config, domain: Domain, local: LocalDomain | None) -> tuple[OurKey, ...]:
    name = domain.ascii
    if local is not None and isinstance(local.dkim, DkimKey):
        key = read_key(local.dkim.key, name, local.dkim.selector)
        return (OurKey(key.selector, write_record(key.private.public_key()), signs=True),)
    store = KeyStore(config.data_dir)
    keys = store.read(name)
    found: list[OurKey] = []
    for entry in keys.entries if keys is not None else ():
        record = write_record(store.key(name, entry).private.public_key())
        found.append(OurKey(entry.selector, record, entry.state is KeyPhase.ACTIVE))
    return tuple(found)
