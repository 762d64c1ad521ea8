"""The recorded and documented facts of the public Mailbox API that Postroom has to match."""
