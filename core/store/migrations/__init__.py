"""The schema's history, applied by Alembic."""

HEAD = "0019"
"""The newest revision: a database that has it needs no migration."""
