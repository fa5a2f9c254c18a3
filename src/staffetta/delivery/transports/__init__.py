"""How a message leaves: SMTP, LMTP, mailbox. Each returns one mail.outcome per recipient."""
