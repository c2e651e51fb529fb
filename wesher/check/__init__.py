"""`wesher check`: what a start with these options would meet on this host, said without starting anything.

Each row is one thing that a start depends on, looked at by the functions that a start uses; an error is what
would end the start, in the words it would end with. Nothing is made, written or deleted, no module is loaded, and
neither a running daemon nor a running helper is asked anything. Names that are to be joined are resolved and their
ports tried: that is all that leaves this host.

Who may not start wesher may still check. It is then a start by root that is looked at, and what only root may see is a
warning that says so.

    finding                                     a line of the answer
    start                                       what is looked at
    judging                                     how bad a refusal is
    processes, gossip, wireguard, hosts, state  the rows, by what they look at
    table                                       all of them, and the look itself
"""
