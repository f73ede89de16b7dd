"""`python -m crossrank`: the `crossrank` program of the Python that is named."""

from crossrank.cli import main

if __name__ == "__main__":
    main()
