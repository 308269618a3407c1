"""The machine's current boot, and the time since: nobody sets that clock, and all processes of the machine share it."""

import time
from pathlib import Path


def boot_id() -> str:
    """Return the identity of the machine's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def uptime() -> float:
    """Return the seconds since the boot for which the machine was awake."""
    return time.monotonic()
