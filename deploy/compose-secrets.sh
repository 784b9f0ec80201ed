#!/bin/sh
# Makes the secrets of compose.yaml that nobody has to choose, in deploy/secrets/, or in the folder that
# is named. What is there stays. To be run as root: the files belong to the bridges' user and group.
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
chgrp 10001 "$folder"
chmod 0750 "$folder"

# put NAME MODE: makes it of standard input.
put() {
    if [ ! -e "$folder/$1" ]; then
        cat >"$folder/$1.new"
        chown 10001:10001 "$folder/$1.new"
        chmod "$2" "$folder/$1.new"
        mv "$folder/$1.new" "$folder/$1"
    fi
}

openssl rand -hex 32 | put database-key 0400
for name in admin-token database-password grafana-password; do
    openssl rand -hex 32 | put "$name" 0440
done
# libpq takes the password from a file only that nobody but its owner can read.
printf 'database:5432:harvest_bridge:harvest_bridge:%s\n' "$(cat "$folder/database-password")" |
    put pgpass 0400
# The certificate is the operator's to put in: the mode is kept when it is written into.
printf '' | put front.pem 0440
