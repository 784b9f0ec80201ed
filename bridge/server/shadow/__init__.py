"""Shadow: the side that did not answer a call is asked as well, and the two answers are compared.

`asked` has what is kept of a call for that, `bridge_side` and `v1_side` the answers without a client,
`running` what is looked at when, `opening` how it is put together. Who answers a call, and of whose
calls which share is looked at, is said by policies.
"""
