"""`python -m api`: serve."""

from common import startup

with startup.without_garbage_collection():
    from api.app import create_app
    from api.settings import ApiSettings
    from common import serve

serve.run(ApiSettings, create_app)
