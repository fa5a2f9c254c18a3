"""What each flag of `sendmail` means, for `--help` and for the manual page. `flags` reads them; a test holds the two
together.
"""

from __future__ import annotations

from typing import Final

FLAGS: Final = (
    ("-t", "", "Send also to whom To, Cc and Bcc name, or Resent-To, Resent-Cc and Resent-Bcc where there are any."),
    ("-i", "", "A line with a single dot does not end the message. Also `-oi`, `-O IgnoreDots`."),
    ("-f", "SENDER", "The envelope sender; `''` and `<>` are the null path. Also `-r`."),
    ("-F", "NAME", "The full name for the From field, where the message has none."),
    ("-N", "WISHES", "When to report: `never`, or any of `success`, `failure`, `delay` with commas between."),
    ("-R", "full|hdrs", "What a report returns of the message."),
    ("-V", "ID", "The envelope id that reports repeat."),
    ("-C", "FILE", "The configuration, from which only `data_dir` is read here."),
    ("-v", "", "Say what was done, and which flags were ignored."),
    ("-bm", "", "Send a message. This is the default."),
    ("-bs", "", "Speak SMTP on standard input and output."),
    ("-bp", "", "List the queue, as `mailq` does."),
    ("-bi", "", "Do what `newaliases` does: nothing. Aliases stand in the configuration. Also `-I`."),
    ("-q", "", "Try everything in the queue now."),
)
"""Flag, its value, its meaning."""

IGNORED: Final = "ABDGLMOPUXcdehmnopsx"
"""Flags of other mail systems that are read with their values and need nothing done."""

STATUSES: Final = (
    (0, "The message is on disk, and the relay takes it from there, now or when it runs."),
    (64, "The command line was wrong, or nobody was named to send to."),
    (65, "An address is none, or the header is too long."),
    (69, "There is no queue to show."),
    (74, "The message could not be read."),
    (75, "The message could not be stored: try again later."),
    (77, "This user may not do that."),
    (78, "The configuration that was named cannot be used."),
)
"""Exit statuses, as sysexits(3) numbers them."""
