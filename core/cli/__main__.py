"""``python -m core.cli`` is ``manifold``."""

from core.cli import main

main()
