"""The api: profiles, marketing plans and their tasks, and the worker that makes the plans."""
