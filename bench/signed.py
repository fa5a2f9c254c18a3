"""Signed mail end to end: every message leaves with DKIM signatures of its sender's domain."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.filters import DOMAIN, Key, dns, one_message, opendkim
from bench.lanes import Lane, alternate, rate_figures
from bench.peers import STAFFETTA, postfix, sink, source, staffetta, staffetta_command
from bench.processes import free_port
from bench.results import Failed, Figure, ratio_figure

TITLE = "Signed end to end"
METHOD = (
    "The same as end to end, but every message is signed before it is on disk: by Postfix with OpenDKIM as its milter "
    '(one RSA-2048 signature, relaxed/relaxed), by Staffetta with both keys of `dkim = "auto"` (RSA-2048 and '
    "Ed25519). One message of each is checked for its signatures before anything is measured."
)
MESSAGES = 2000
ROUNDS = 5
PEER_FACTOR = 4.0

DOOR = STAFFETTA.replace("auth = false\n", f'auth = false\nfrom = ["{DOMAIN}"]\n', 1)

MILTER = """
smtpd_milters = inet:127.0.0.1:{port}
milter_default_action = tempfail
milter_protocol = 6
"""


def _make_keys(path: Path) -> None:
    # Exit 1: not published, which nobody asks here.
    subprocess.run(
        [staffetta_command(), "dkim", "publish", DOMAIN, "--zone", "-c", str(path / "staffetta.toml")],
        check=False,
        capture_output=True,
    )


def run() -> list[Figure]:
    with ExitStack() as stack:
        key = Key()
        stack.enter_context(dns(key.zones))
        behind = free_port()
        milter = stack.enter_context(opendkim(key, verify=False))
        extra = f'[domain."{DOMAIN}"]\n'
        ours = stack.enter_context(staffetta(behind, DOOR, extra, _make_keys))
        theirs = stack.enter_context(postfix(behind, MILTER.format(port=milter)))
        for name, port, signatures in (("Staffetta", ours.port, 2), ("Postfix", theirs.port, 1)):
            content = one_message(behind, partial(source, port, 1, 1))
            if content.count(b"DKIM-Signature:") != signatures:
                raise Failed(f"what comes from {name} is not signed as it should be: {content[:800]!r}")
        target = stack.enter_context(sink(behind))
        lanes = {"staffetta": Lane(ours, source, target), "postfix": Lane(theirs, source, target)}
        neighbours = alternate(lanes, MESSAGES, ROUNDS)
    ratio = ratio_figure(
        "staffetta / postfix with OpenDKIM", lanes["staffetta"].rates, lanes["postfix"].rates, PEER_FACTOR
    )
    return [*rate_figures(lanes), neighbours, ratio]
