"""What each rule is, in a sentence: the words that `trace`, log and `explain` give behind `because`.

The reference page is made of them, and `staffetta help RULE` says one. A rule never changes its meaning. This module
refuses to know how a rule decides; that stands in `policy`, and for the protocol's own in `protocol`.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Group(msgspec.Struct, frozen=True):
    """Rules that belong together, each with its sentence."""

    title: str
    rules: dict[str, str]


GROUPS: Final = (
    Group(
        "Who may connect, and how often",
        {
            "connections": "All connections of the relay are in use: `[limits] connections`.",
            "connections_per_client": "The client's network has its share of connections:"
            " `[limits] connections_per_client`.",
            "early_talker": "The client spoke before it was greeted, as programs that only pretend to speak SMTP do.",
            "proxy_header": "A PROXY header from a peer that is not in `proxy_protocol`, or none from one that is.",
            "http": "The client speaks HTTP; it is cut off without an answer.",
            "tls_without_starttls": "The client began TLS at a door that speaks in clear first.",
            "starttls_pipelining": "The client sent more behind STARTTLS before TLS was there, as who injects commands"
            " does.",
            "commands_per_session": "More commands than one session may send: `[limits] commands_per_session`.",
        },
    ),
    Group(
        "Logins",
        {
            "login": "As a refusal: name or password is wrong. As a permission: the client is logged in and may send"
            " anywhere.",
            "login_put_off": "The login is put off: the server is busy checking passwords.",
            "login_failures_network": "Too many failed logins from this network in ten minutes:"
            " `[limits] login_failures`.",
            "login_failures_account": "The account is being guessed at, and this network took part:"
            " `[limits] login_failures`.",
            "login_required": "This door takes mail only after a login.",
            "accounts": "The store of accounts cannot be asked now, so the client is told to come again.",
            "auth_mechanism": "The client asked for a way to log in that this door does not offer.",
        },
    ),
    Group(
        "Who may send as whom",
        {
            "own_name": "The login sends as itself, as one of its aliases, or as what `--may-send` grants.",
            "sender_not_owned": "The login may not use this envelope sender.",
            "header_not_owned": "From, Sender or Resent-* names an address that the login, or the door, may not use, or"
            " the display name of From shows one of ours.",
            "header_unclear": "The message has no From, several, or one that programs read differently: who it is from"
            " cannot be judged.",
            "header_begins_with_space": "The header begins with white space, and would continue a field of ours.",
            "sender_not_at_this_door": "The sender is not in the door's `from`.",
            "door_sender_list": "The sender is in the door's `from`.",
            "door_without_sender_list": "The door lets any sender pass.",
            "from_fixed": "The door rewrites sender and From to its `from_fixed`.",
            "null_path": "The message is from nobody, as reports are.",
            "local_sender_from_outside": "The envelope claims one of our domains, and the client is not logged in.",
        },
    ),
    Group(
        "Who may send where",
        {
            "mx": "An mx door takes mail from anybody, for local recipients.",
            "local_recipient": "The recipient is one of ours.",
            "trusted_network": "The client is inside the door's `trust` and may send anywhere.",
            "local_submission": "The message came from a command on this machine.",
            "client_not_trusted": "The client is outside the door's `trust`, and the door offers no login.",
            "trust_withdrawn": "The client's network was trusted when it connected, and is not any more.",
            "relaying_denied": "The recipient is not one of ours, and the client may not relay.",
            "unknown_recipient": "No account, alias or catch-all of the local domain has that address.",
            "only_bounces": "The address stands for the sender of forwarded mail, and takes bounces only.",
            "recipients": "More recipients than one message may have; the rest may come again: `[limits] recipients`.",
        },
    ),
    Group(
        "What the message is proven to be",
        {
            "checks": "SPF, DKIM, DMARC, ARC and block lists have nothing against the message.",
            "known_forwarder": "A forwarder of `[checks] forwarders` is proven to have sent it, so that DMARC, SPF and"
            " DKIM do not refuse it.",
            "blocklist": "A block list has the client's address or a domain: `[[checks.blocklist]]`,"
            " `[[checks.domain_blocklist]]`.",
            "reverse_name": 'The client\'s address has no name that leads back to it (`[checks] reverse = "enforce"`).',
            "reverse_unknown": "The name of the client's address cannot be asked for now; the client is told to come"
            " again.",
            "helo_name": "The client greeted with a name that is malformed, not a full one, unknown to the DNS, or ours"
            ' (`[checks] helo = "enforce"`).',
            "dmarc_reject": "The domain in From asks for refusal of what nothing proves, and nothing proves this.",
            "dmarc_quarantine": "The same, and it asks for the junk folder.",
            "dmarc_unknown": "DMARC could not be checked now; the client is told to come again.",
            "author_unclear": "From cannot be read without doubt, so that DMARC cannot be applied: the junk folder.",
            "spf_fail": 'SPF of the sender\'s domain forbids this client to send for it (`[checks] spf = "enforce"`).',
            "spf_unknown": "SPF could not be checked now; the client is told to come again.",
            "dkim_none": 'No signature verifies (`[checks] dkim = "enforce"`).',
            "dkim_unknown": "A signature could not be checked now; the client is told to come again.",
        },
    ),
    Group(
        "What the message is made of",
        {
            "accepted": "Nothing is against the content.",
            "message_size": "The client announced more than is taken: `[limits] message_size`.",
            "too_big": "The message was larger than is taken: `[limits] message_size`.",
            "header_too_big": "The header, a field of it, or their number is beyond the limits.",
            "too_many_hops": "The message passed more servers than is sensible: a loop. `[limits] hops`.",
            "delivered_to": "The message was in that mailbox before: a loop.",
            "bare_line_ending": "The content has a CR or LF alone. Programs disagree on where such a message ends.",
            "nul": "A NUL octet.",
            "bare_cr": "A CR alone in a command.",
            "bare_lf": "An LF alone in a command.",
            "line_too_long": "A line longer than the limit.",
            "endless_line": "A line that does not end.",
            "control_character": "A control character in a command.",
            "not_utf8": "A command that is neither ASCII nor UTF-8.",
        },
    ),
    Group(
        "The dialogue",
        {
            "syntax": "The command is not written as RFC 5321 says.",
            "sequence": "The command does not belong here: MAIL before EHLO, RCPT before MAIL, and the like.",
            "address": "The address cannot be read.",
            "non_ascii": "An address beyond ASCII without SMTPUTF8.",
            "unknown_parameter": "A parameter of MAIL or RCPT that nobody offered, or one that is malformed.",
            "bdat_syntax": "BDAT without a size that can be read.",
            "unknown_command": "No command of SMTP.",
            "not_implemented": "A command of SMTP that is not offered.",
        },
    ),
    Group(
        "The relay itself",
        {
            "storage": "The message cannot be stored now, because the disk is full or does not work; the client is told"
            " to come again.",
            "signing": "The message has to be signed and the keys cannot be used now; the client is told to come"
            " again.",
            "internal_error": "A bug of ours, which was reported; the client is told to come again.",
            "drop_damaged": "A file in the drop directory is no message; it was put aside.",
            "drop_stuck": "A file in the drop directory was taken and cannot be removed.",
        },
    ),
)

RULES: Final = {rule: words for group in GROUPS for rule, words in group.rules.items()}
"""Every rule and its sentence."""


def page() -> str:
    """`docs/reference/rules.md`."""
    lines = [
        "# Rules",
        "",
        "<!-- Made by staffetta.control.rule_words. Do not edit. -->",
        "",
        "The word that `trace` and `explain session` give behind `because`, and the log as `rule`: which rule let a",
        "message pass, refused it, put it off, or sent it to the junk folder. `explain session` also names the line of",
        "the configuration that it comes from. A rule never changes its meaning. `staffetta help RULE` says one line",
        "of this page.",
    ]
    for group in GROUPS:
        lines += ["", f"## {group.title}", "", "| rule | what it means |", "| --- | --- |"]
        lines += [f"| `{rule}` | {words} |" for rule, words in group.rules.items()]
    return "\n".join(lines) + "\n"
