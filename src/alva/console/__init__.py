"""The environment in a browser, read-only: `./alva open` serves it on loopback, `./alva draw` writes its picture.

It reads what the verbs read (`alva.release`, `alva.checks`), so that it says what they say.
"""
