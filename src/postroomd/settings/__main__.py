"""Prints the table of settings in the README."""

import sys

from postroomd.settings.loading import markdown_table

if __name__ == "__main__":
    sys.stdout.write(markdown_table())
