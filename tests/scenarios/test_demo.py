"""`staffetta demo` as a newcomer runs it: one command, five journeys, exit status 0, nothing left behind."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
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


def test_it_can_be_kept_and_looked_at(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "staffetta", "demo", "--keep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    watchdog = threading.Timer(100, demo.kill)
    watchdog.start()
    try:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if line.startswith("  look "):
                break
        (console,) = re.findall(r"  console  http://([0-9.]+:[0-9]+)/metrics", "".join(said))
        client = http.client.HTTPConnection(console, timeout=10)
        client.request("GET", "/metrics")
        page = client.getresponse().read().decode()
        client.close()
        assert 'staffetta_messages_accepted_total{listener="submission"} 3' in page
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
        demo.wait(60)
    finally:
        watchdog.cancel()
        demo.kill()
        demo.wait()
        if demo.stdout is not None:
            demo.stdout.close()
    assert "stopping" in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())
