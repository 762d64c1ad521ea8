"""`python -m postroomd` is `postroom`."""

from postroomd.cli.app import main

if __name__ == "__main__":
    main()
