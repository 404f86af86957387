#!/bin/bash
# Runs inside a database container, beside the SQL files. `load` makes the zoo, `show` prints all that the server holds:
# its globals, a dump of each database, and the number of rows with a hash over them for every table.
set -euo pipefail
cd "$(dirname "$0")"
export PGUSER=postgres PGOPTIONS='-c client_min_messages=error'

sql() {
  psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# One connection string a line: what looks like one is taken for one, so a name is never given bare.
databases() {
  sql -d postgres -c "SELECT \$\$dbname='\$\$ || replace(replace(datname, \$\$\\\$\$, \$\$\\\\\$\$), \$\$'\$\$, \$\$\\'\$\$) || \$\$'\$\$
    FROM pg_database WHERE NOT datistemplate ORDER BY datname COLLATE \"C\""
}

load() {
  sql -d postgres -f server.sql >/dev/null
  sql -d zoo -f zoo.sql >/dev/null
  sql -d zoo_ascii -f ascii.sql >/dev/null
  databases | grep -v "'postgres'\|'zoo'\|'zoo_ascii'" | while read -r name; do sql -d "$name" -f other.sql; done
}

show() {
  echo "=== globals"
  pg_dumpall --globals-only --no-sync
  databases | while read -r name; do
    echo "=== dump of $name"
    pg_dump --create --no-sync -d "$name" </dev/null
    echo "=== rows of $name"
    sql -d "$name" -f rows.sql
  done
}

"$1"
