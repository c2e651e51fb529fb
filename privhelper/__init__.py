"""The privileged half: eight operations, each checked against a policy fixed before the other half existed.

Nothing here imports `wesher`. The pure modules (`protocol`, `addressing`, `policy`, `options`) are shared with
the agent, which thus speaks the same bytes; what the agent checks is checked here again.
"""

from typing import Final

GENERATION: Final = 1
"""Whether a helper that runs may go on when another version of wesher is installed: if the numbers are the same.

Restarting the helper takes the tunnels down for a moment, restarting the agent takes nothing. So an upgrade restarts
the helper only where what runs must not stay: this number goes up by one when `protocol.VERSION` changes, and with
every fix in here that matters for security. A running helper tells it to the service manager, in the line for people,
and an installer (dist/) compares; to go back to an older version is the same comparison.
"""
