"""An embedded v2 API for invoice messages and payments, with state: for demos, tests, rehearsals.

It follows the vendor's v2 documentation and imports nothing else of the bridge, so that a mistake
of the bridge is not answered by the same mistake here.
"""
