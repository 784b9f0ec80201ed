// The same list by Node's usual means: express and fast-xml-parser. It checks and logs nothing.
// Usage: express.js UPSTREAM PORT

"use strict";

const http = require("node:http");
const express = require("express");
const { XMLBuilder } = require("fast-xml-parser");

const [upstream, port] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 100 });
const builder = new XMLBuilder({ ignoreAttributes: false, attributeNamePrefix: "@" });

function text(value) {
  return value === null ? { "@nil": "true" } : value;
}

function typed(type, value) {
  return value === null ? { "@type": type, "@nil": "true" } : { "@type": type, "#text": value };
}

function item(message, invoice) {
  return {
    body: text(message.body),
    "created-at": typed("datetime", message.created_at),
    id: typed("integer", message.id),
    "invoice-id": typed("integer", invoice),
    "send-me-a-copy": typed("boolean", message.send_me_a_copy),
    "sent-by": text(message.sent_by),
    "sent-by-email": text(message.sent_by_email),
    "full-recipient-list": message.recipients.map((each) => `${each.name} <${each.email}>`).join(", "),
  };
}

function list(data, invoice) {
  const messages = JSON.parse(data).invoice_messages;
  return builder.build({
    "?xml": { "@version": "1.0", "@encoding": "UTF-8" },
    "invoice-messages": {
      "@type": "array",
      "invoice-message": messages.map((message) => item(message, invoice)),
    },
  });
}

const app = express();
app.disable("etag");
app.disable("x-powered-by");
app.get("/:root/:invoice/messages", (request, response, next) => {
  const invoice = request.params.invoice;
  const headers = { Authorization: request.get("Authorization") };
  http
    .get(`${upstream}/invoices/${invoice}/messages?per_page=2000`, { agent, headers }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => {
        response.type("application/xml").send(list(Buffer.concat(chunks).toString(), invoice));
      });
    })
    .on("error", next);
});
app.listen(Number(port), "127.0.0.1");
