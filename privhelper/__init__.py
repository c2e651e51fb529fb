"""The privileged half: eight operations, each checked against a policy fixed before the other half existed.

Nothing here imports `wesher`. The pure modules (`protocol`, `addressing`, `policy`, `options`) are shared with
the agent, which thus speaks the same bytes; what the agent checks is checked here again.
"""
