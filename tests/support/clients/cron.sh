#!/bin/sh
# A cron job, as a shell with curl does it, in the paths of 2008.
#
# It knows v1 only. Prints a line a call: its name, the status, what it read.
set -eu
message='<invoice-message><subject>Your invoice</subject><body>Thank you &amp; goodbye</body><recipients>Jane Doe &lt;jane@doe.org&gt;</recipients></invoice-message>'
payment='<payment><amount type="decimal">1.50</amount><notes>Wire</notes></payment>'
head=$(mktemp) body=$(mktemp)
trap 'rm -f "$head" "$body"' EXIT

call() { # path, and more for curl
    path=$1
    shift
    curl -sS -u "$HARVEST_LOGIN:$HARVEST_PASSWORD" -D "$head" -o "$body" -w '%{http_code}' "$@" "$HARVEST_URL$path"
}

post() { # path, body
    call "$1" -H 'Content-Type: application/xml' -d "$2"
}

count() { # element
    grep -c "<$1>" "$body" || true
}

text() { # element
    sed -n "s:.*<$1>\(.*\)</$1>.*:\1:p" "$body" | head -n 1
}

made() {
    tr -d '\r' <"$head" | sed -n 's:^Location\: .*/::p'
}

for step; do
    case $step in
    list) status=$(call /invoice/1420/messages) && read=$(count invoice-message) ;;
    show) status=$(call /invoice/1420/messages/409) && read=$(text body) ;;
    send) status=$(post /invoice/1420/messages "$message") && read=$(made) ;;
    payments) status=$(call /invoice/1420/payments) && read=$(count payment) ;;
    pay) status=$(post /invoice/1420/payments "$payment") && read=$(made) ;;
    clients) status=$(call /clients) && read=$(text name) ;;
    esac
    if [ "$status" -ge 300 ]; then read=; fi
    printf '%s\t%s\t%s\n' "$step" "$status" "$read"
done
