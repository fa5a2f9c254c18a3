"""Every stage and rule by which the relay refuses, so that each has its series before it first decides.

A rule that is not here is counted all the same from its first time on; a test looks for forgotten ones.
"""

from __future__ import annotations

from typing import Final

_LINE: Final = "bare_lf bare_cr nul control_character not_utf8 line_too_long endless_line"

_BY_STAGE: Final = {
    "connect": "connections connections_per_client early_talker",
    "command": f"{_LINE} unknown_command not_implemented commands_per_session http proxy_header",
    "ehlo": "syntax",
    "helo": "syntax",
    "starttls": "syntax sequence starttls_pipelining",
    "auth": "syntax sequence auth_mechanism line_too_long endless_line",
    "mail": (
        "syntax sequence address non_ascii unknown_parameter control_character message_size login_required"
        " client_not_trusted trust_withdrawn sender_not_owned sender_not_at_this_door local_sender_from_outside"
    ),
    "rcpt": (
        "syntax sequence address non_ascii unknown_parameter control_character recipients relaying_denied"
        " unknown_recipient only_bounces accounts"
    ),
    "data": (
        "syntax sequence bare_line_ending nul line_too_long too_big header_too_big too_many_hops delivered_to"
        " header_unclear header_not_owned header_begins_with_space blocklist dmarc_reject dmarc_unknown"
        " spf_fail spf_unknown dkim_none dkim_unknown reverse_name reverse_unknown helo_name signing storage"
    ),
    "bdat": "syntax sequence bdat_syntax message_size",
    "rset": "syntax",
    "quit": "syntax",
    "vrfy": "syntax",
    "pickup": "drop_damaged drop_stuck",
}

REFUSALS: Final = tuple((stage, rule) for stage, rules in _BY_STAGE.items() for rule in rules.split())
"""Pairs of stage and rule, as the event `refuse` names them."""

LOGIN_RULES: Final = frozenset({"login", "login_put_off", "login_failures_network", "login_failures_account"})
"""What refuses a login; those are counted as logins that were tried."""
