"""Stock Dovecot and Postfix on Postroom's database, driven through Postroom's API only: `make test-mail`."""
