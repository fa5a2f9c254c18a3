"""Whom Postfix asks about a password: Cyrus SASL with a file of clear passwords, or Dovecot with a hashed one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.filters import running
from bench.peers import folder
from bench.processes import free_port, run, tool

LOGIN = "anna@company.example"
PASSWORD = "correct-horse-7-battery"

CYRUS_SETTINGS = """
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
"""

CYRUS = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/sasldb2
mech_list: PLAIN LOGIN
"""

DOVECOT_SETTINGS = """
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{port}
"""

DOVECOT = """
base_dir = {folder}/run
log_path = {folder}/log
protocols =
ssl = no
auth_mechanisms = plain login
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


class Backend(NamedTuple):
    """What Postfix is told, and what is done in its directory before it starts."""

    settings: str
    prepare: Callable[[Path], None] | None = None


@contextmanager
def cyrus() -> Iterator[Backend]:
    """Cyrus SASL inside smtpd, with the password in clear in a database file: nobody to ask, nothing to compute."""
    yield Backend(CYRUS_SETTINGS, _add_cyrus_user)


@contextmanager
def dovecot() -> Iterator[Backend]:
    """Dovecot's auth service as it comes, with the password hashed as `doveadm pw` hashes it by default."""
    with folder("dovecot") as path:
        port = free_port()
        hashed = run([tool("doveadm", "dovecot-core"), "pw", "-p", PASSWORD], 10).stdout.decode().strip()
        (path / "users").write_text(f"{LOGIN}:{hashed}::::::\n")
        if os.getuid() == 0:
            shutil.chown(path / "users", "dovecot")
        (path / "dovecot.conf").write_text(DOVECOT.format(folder=path, port=port))
        with running([tool("dovecot", "dovecot-core"), "-F", "-c", str(path / "dovecot.conf")], port, "dovecot"):
            yield Backend(DOVECOT_SETTINGS.format(port=port))


def _add_cyrus_user(path: Path) -> None:
    # Debian's Postfix looks for it below its own configuration, whatever cyrus_sasl_config_path says.
    (path / "etc" / "sasl").mkdir()
    (path / "etc" / "sasl" / "smtpd.conf").write_text(CYRUS.format(folder=path))
    user, _, realm = LOGIN.partition("@")
    subprocess.run(
        [tool("saslpasswd2", "sasl2-bin"), "-p", "-c", "-u", realm, "-f", str(path / "sasldb2"), user],
        input=PASSWORD.encode(),
        check=True,
        capture_output=True,
    )
    if os.getuid() == 0:
        shutil.chown(path / "sasldb2", "postfix")
