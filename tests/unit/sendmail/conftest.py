"""A drop directory, `sendmail` run in it, and other users of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from staffetta.app.pickup_folder import prepare
from staffetta.control.place import drop_of

NOBODY = 65534


@pytest.fixture
def drop() -> Iterator[Path]:
    """The drop directory, made as a relay makes it; where other users get to it, unlike pytest's folders."""
    with tempfile.TemporaryDirectory(prefix="drop-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        assert prepare(Path(folder) / "data", None) == ""
        yield drop_of(Path(folder) / "data")


Sendmail = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def sendmail(drop: Path) -> Sendmail:
    """Runs the command on some input."""

    def run(*words: str, given: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        code = "from staffetta.sendmail.main import sendmail; sendmail()"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STAFFETTA_")}
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            input=given,
            capture_output=True,
            timeout=20,
            check=False,
            env={**kept, "STAFFETTA_DROP": str(drop), **environment},
        )

    return run


@pytest.fixture
def as_nobody() -> Callable[[Callable[[], None]], None]:
    """Runs a function in a child process that is nobody. Skipped where we are not root."""
    if os.getuid() != 0:
        pytest.skip("becoming another user takes root")

    def run(work: Callable[[], None]) -> None:
        child = os.fork()
        if not child:
            status = 1
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    return run
