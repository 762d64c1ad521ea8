"""`python -m postroom` is the command `postroom`, which the server's distribution, `postroom`, brings along."""

import importlib
import importlib.util
import sys


def main() -> None:
    """Run the command line of the server, or say how to install it."""
    if importlib.util.find_spec("postroomd") is None:
        sys.exit("postroom: only the client is installed, which has no commands: pip install postroom")
    # By name: the client does not depend on the server.
    importlib.import_module("postroomd.cli.app").main()


if __name__ == "__main__":
    main()
