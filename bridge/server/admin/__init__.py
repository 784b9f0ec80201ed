"""The admin side, on an address of its own: health, metrics, and the dashboard.

`side` has its connections and what all its answers have in common, `guard` who may see what,
`requests` what a page is told and may say, `health` what probes ask for.
"""
