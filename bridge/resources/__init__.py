"""The parts of v1 that are translated: each a module here and a folder of XSDs in `schemas/`."""

from bridge.resources import account, invoice_messages, invoice_payments
from bridge.resources.routes import Resource

RESOURCES: tuple[Resource, ...] = (
    invoice_messages.RESOURCE,
    invoice_payments.RESOURCE,
    account.RESOURCE,
)
