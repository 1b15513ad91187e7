"""`python -m alva`: what the launcher runs."""

from alva.cli.main import main

if __name__ == "__main__":
    main()
