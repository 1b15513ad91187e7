"""What web and admin share: layout, style, settings, calls to the other services, error pages."""
