"""Where a finished student goes: one target per file."""
