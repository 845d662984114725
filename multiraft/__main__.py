"""`python -m multiraft` is the `multiraft` command."""

from multiraft.cli import main

if __name__ == "__main__":
    main()
