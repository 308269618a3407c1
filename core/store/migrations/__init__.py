"""The schema's history, applied by Alembic."""

HEAD = "0020"
"""The newest revision: a database that has it needs no migration."""
