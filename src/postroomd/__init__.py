"""Postroom: the control plane for e-mail mailboxes."""

__version__ = "0.1.0"
