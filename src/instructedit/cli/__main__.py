"""`python -m instructedit.cli` is the console script."""

from instructedit.cli import main

if __name__ == "__main__":
    main()
