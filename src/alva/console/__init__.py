"""Shows the environment in a browser, read-only: `./alva open` serves it on loopback, `./alva draw` writes its picture.

It reads through `alva.release` and `alva.checks`, as the verbs do, so that the page and the verbs agree.
"""
