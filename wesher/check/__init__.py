"""`wesher check`: what a start with these options would meet on this host, said without starting anything.

Each row is one thing that a start depends on, looked at by the functions that a start uses; an error is what
would end the start, in the words it would end with. Nothing is made, written or deleted, no module is loaded, and
neither a running daemon nor a running helper is asked anything. Names that are to be joined are resolved and their
ports tried, with pings where the cluster key is known: that is all that leaves this host. Where root
checks, a process of the agent's user asks them.

Which start it is follows from the options: the launcher's, or with --helper-socket the agent's alone, with --listen
the helper's, with both (as an installed unit has them) both.

Who may not start wesher may still check. It is then a start by root that is looked at, and what only root may see is a
warning that says so.

    finding                                     a line of the answer
    start, unit                                 what is looked at; an installed unit's options
    judging                                     how bad a refusal is
    reaching, meeting, apart                    how far a member is reached; who is to be joined; as another user
    ruleset                                     what this host's nftables do with a packet
    processes, firewall, gossip, wireguard,     the rows, by what they look at
    hosts, state
    table                                       all of them, and the look itself
"""
