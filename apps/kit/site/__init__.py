"""What web and admin share beyond the kit: their look, settings, calls to the other services, error pages."""
