"""What Alva's services share: settings, logging, the app itself, tokens, pages, database and cache."""
