"""Reports, as Python with requests makes them: a session, Basic from its `auth`.

It knows v1 only. Prints a line a call: its name, the status, what it read.
"""

import os
import sys
import xml.etree.ElementTree as ET

import requests

BASE = os.environ["HARVEST_URL"]
MESSAGE = (
    "<invoice-message><subject>Your invoice</subject><body>Thank you &amp; goodbye</body>"
    "<recipients>Jane Doe &lt;jane@doe.org&gt;</recipients></invoice-message>"
)
PAYMENT = '<payment><amount type="decimal">1.50</amount><notes>Wire</notes></payment>'

session = requests.Session()
session.auth = (os.environ["HARVEST_LOGIN"], os.environ["HARVEST_PASSWORD"])
session.headers["Accept"] = "application/xml"


def read(path: str, find: str) -> tuple[int, str]:
    """Return the status of a GET, and the texts of what it finds in the answer, or their number."""
    answer = session.get(BASE + path)
    if not answer.ok:
        return answer.status_code, ""
    found = ET.fromstring(answer.content).findall(find)
    return answer.status_code, (found[0].text or "").strip() or str(len(found))


def write(path: str, body: str) -> tuple[int, str]:
    """Return the status of a POST, and the id of what it has made."""
    headers = {"Content-Type": "application/xml"}
    answer = session.post(BASE + path, data=body, headers=headers)
    return answer.status_code, answer.headers.get("Location", "").rpartition("/")[2]


STEPS = {
    "list": lambda: read("/invoices/1420/messages", "invoice-message"),
    "show": lambda: read("/invoices/1420/messages/409", "body"),
    "send": lambda: write("/invoices/1420/messages", MESSAGE),
    "payments": lambda: read("/invoices/1420/payments", "payment"),
    "pay": lambda: write("/invoices/1420/payments", PAYMENT),
    "clients": lambda: read("/clients", "client/name"),
}

for step in sys.argv[1:]:
    print(step, *STEPS[step](), sep="\t")  # noqa: T201 - it is what it is for
