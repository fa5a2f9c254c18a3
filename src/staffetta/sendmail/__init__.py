"""`sendmail`, `mailq` and `newaliases`: what programs on a Unix machine expect of a mail system."""
