"""Tier 3: where accepted messages wait, and the journal and ledger that can never disagree with them."""
