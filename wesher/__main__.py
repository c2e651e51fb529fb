"""`python -m wesher` is the console script."""

from wesher.cli import main

main()
