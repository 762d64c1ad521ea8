"""The control of a scenario: a process that uses as much processor time as the attacker did, and sends nothing."""

import sys
import time

SLICE_SECONDS = 0.02


def burn(cores: float) -> None:
    """Use a share of one or more cores until terminated; more than one core needs that many processes."""
    while True:
        started = time.process_time()
        until = time.monotonic() + SLICE_SECONDS
        while time.process_time() - started < SLICE_SECONDS * min(cores, 1.0):
            pass
        time.sleep(max(0.0, until - time.monotonic()))


if __name__ == "__main__":
    burn(float(sys.argv[1]))
