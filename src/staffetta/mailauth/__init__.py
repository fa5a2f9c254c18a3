"""Who does this message really come from? SPF, DKIM, DMARC and ARC."""
