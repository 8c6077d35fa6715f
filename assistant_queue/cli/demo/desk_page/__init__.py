"""The desk's page: static files."""
