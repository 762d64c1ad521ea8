"""`python -m postroomd` is `postroom`."""

from postroomd.cli import main

if __name__ == "__main__":
    main()
