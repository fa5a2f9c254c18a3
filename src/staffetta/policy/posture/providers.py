"""Senders that many customers share: whoever includes one in SPF lets all its customers' mail pass.

Being here blames nobody. It says that the addresses are shared, so that an SPF pass alone proves no more than "sent by
some customer of this provider". Each name is the one that the provider tells its customers to include; it stands for
every name below it too. Providers change these names seldom; a missing one means a missing warning, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SHARED: Final = {
    "spf.protection.outlook.com": "Microsoft 365",
    "_spf.google.com": "Google Workspace",
    "amazonses.com": "Amazon SES",
    "sendgrid.net": "SendGrid",
    "mailgun.org": "Mailgun",
    "servers.mcsv.net": "Mailchimp",
    "spf.mandrillapp.com": "Mailchimp Transactional (Mandrill)",
    "zohomail.com": "Zoho",
    "zohomail.eu": "Zoho",
    "zoho.com": "Zoho",
    "zoho.eu": "Zoho",
    "transmail.net": "Zoho ZeptoMail",
    "pphosted.com": "Proofpoint",
    "ppe-hosted.com": "Proofpoint Essentials",
    "mimecast.com": "Mimecast",
    "relay.mailchannels.net": "MailChannels",
    "spf.mtasv.net": "Postmark",
    "sparkpostmail.com": "SparkPost",
    "spf.mailjet.com": "Mailjet",
    "spf.sendinblue.com": "Brevo",
    "spf.brevo.com": "Brevo",
    "_spf.salesforce.com": "Salesforce",
    "mail.zendesk.com": "Zendesk",
    "hubspotemail.net": "HubSpot",
    "spf.messagingengine.com": "Fastmail",
    "_spf.protonmail.ch": "Proton Mail",
    "emailsrvr.com": "Rackspace",
    "secureserver.net": "GoDaddy",
    "spf.web-hosting.com": "Namecheap",
    "_spf.mail.hostinger.com": "Hostinger",
    "mx.ovh.com": "OVHcloud",
    "_spf-eu.ionos.com": "IONOS",
    "_spf-us.ionos.com": "IONOS",
    "_spf.yandex.net": "Yandex",
    "icloud.com": "iCloud Mail",
}


def shared_providers(terms: Iterable[str]) -> dict[str, str]:
    """Of these terms of an SPF record those that pass a shared sender, and whose that is.

    Only terms that pass count: with `?include:` the provider's customers are neutral. The end of a name with macros is
    what tells whose it is.
    """
    found: dict[str, str] = {}
    for term in terms:
        name = _included(term)
        labels = name.split(".")
        for start in range(len(labels)):
            provider = SHARED.get(".".join(labels[start:]))
            if provider is not None:
                found[term] = provider
                break
    return found


def shared_by(terms: Iterable[str], includes: Iterable[str]) -> dict[str, str]:
    """The same for a record with `terms` whose inclusions lead to `includes`, at any depth."""
    terms = tuple(terms)
    found = shared_providers(terms)
    weakened = {_included(term[1:]) for term in terms if term[:1] in {"?", "~", "-"}}
    for name in includes:
        if name not in weakened:
            for term, provider in shared_providers([f"include:{name}"]).items():
                if provider not in found.values():
                    found[term] = provider
    return found


def _included(term: str) -> str:
    text = term.lower() if term.isascii() else ""
    text = text.removeprefix("+")
    for start in ("include:", "redirect=", "a:", "mx:", "exists:"):
        if text.startswith(start):
            return text.removeprefix(start).removesuffix(".")
    return ""
