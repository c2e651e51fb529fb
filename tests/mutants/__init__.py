"""Whether the tests of the protocol core notice when one of its rules is wrong: `python -m tests.mutants --help`."""
