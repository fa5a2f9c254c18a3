"""What the DNS says of a domain, judged: can others send as it, can it be reached safely, will bulk rules take it."""
