"""The database migrations of all services. `python -m migrations` upgrades the database to the latest revision."""
