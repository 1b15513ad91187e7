"""Auth: registration and sign-in by mail link or password, sessions, tokens, roles and the audit log."""
