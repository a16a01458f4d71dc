"""Sub-agents that write: mails, notes, summaries. Untrusted text goes to them and no farther."""
