"""`python -m bitnet_trace script.py args`: traces a program without an edit."""

from ._program import main

if __name__ == "__main__":
    main()
