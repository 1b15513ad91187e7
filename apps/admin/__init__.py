"""The back office: users, plans, jobs and what runs, for administrators."""
