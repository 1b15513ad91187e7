"""`python -m web`: what the image runs."""

from common import startup

with startup.without_garbage_collection():
    from common import serve
    from web.app import WebSettings, create_app

if __name__ == "__main__":
    serve.run(WebSettings, create_app)
