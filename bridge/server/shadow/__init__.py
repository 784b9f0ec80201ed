"""Shadow: the side that did not answer a call is asked as well, and both answers are compared.

`asked` has what is kept of a call for that, `bridge_side` and `v1_side` what either answers without
a client, `running` what is looked at when, `opening` how it is put together. Who answers a call,
and which share of whose calls is looked at, is said by policies.
"""
