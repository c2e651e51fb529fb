"""A mesh of real daemons that is given no rest, and has to be exactly right when it is."""
