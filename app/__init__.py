"""The studio's pages: they show and ask, and never train."""
