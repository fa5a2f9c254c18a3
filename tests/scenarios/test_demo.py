"""`staffetta demo` as a newcomer runs it: one command, five journeys, exit status 0, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_five_journeys_end_as_they_should(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "staffetta", "demo"],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n   ok\n") == 5
    for words in (
        "attempt  mx.ditta.example",  # 1: by the company's MX
        "250 2.0.0 delivered to the mailbox",  # 2: into the mailbox
        "550 5.7.1 relaying denied",  # 3: the stranger
        "550 5.7.1 rejected because of the DMARC policy of posta.example",  # 4: the forger
        "553 5.7.1 this login may not send from that address",
        "deferred: 450 4.4.1",  # 5: waits, and arrives
        "All five ended as they should.",
    ):
        assert words in done.stdout
    assert not list(tmp_path.iterdir())
