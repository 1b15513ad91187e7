"""The one history of the database's schema; `python -m migrations` brings the database to its end."""
