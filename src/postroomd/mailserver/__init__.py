"""The configuration of Dovecot, Postfix and rspamd that reads Postroom's database by the SQL contract."""
