"""The back office for administrators: users, plans, jobs and the running images."""
