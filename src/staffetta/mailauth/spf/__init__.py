"""May this address send for this domain? The Sender Policy Framework, RFC 7208."""
