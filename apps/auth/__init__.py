"""Auth: who somebody is. Registration and sign-in by mail link or password, sessions, tokens, roles, the audit log."""
