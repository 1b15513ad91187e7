"""`python -m api`: serve."""

from api.app import create_app
from api.settings import ApiSettings
from common import serve

serve.run(ApiSettings, create_app)
