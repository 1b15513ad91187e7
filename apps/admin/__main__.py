"""`python -m admin`: what the image runs."""

from common import startup

with startup.without_garbage_collection():
    from admin.app import AdminSettings, create_app
    from common import serve

if __name__ == "__main__":
    serve.run(AdminSettings, create_app)
