"""`python -m auth`: serve."""

from common import startup

with startup.without_garbage_collection():
    from auth.app import create_app
    from auth.settings import AuthSettings
    from common import serve

serve.run(AuthSettings, create_app)
