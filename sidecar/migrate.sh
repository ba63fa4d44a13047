#!/bin/sh

# Writes the table which migrate.h declares out of NNN_name.{up,down}.sql.
#
#     sh migrate.sh DIRECTORY > migrations.c

set -eu

literal()
{
    awk '{
        gsub(/\\/, "&&")
        gsub(/"/, "\\\\&")
        printf "      \"%s\\n\"\n", $0
    }' "$1"
}

printf '\n/* made from migrations/ */\n\n#include <stddef.h>\n\n'
printf '#include "migrate.h"\n\n\nconst migration_t  migrations[] = {\n'

for up in "$1"/[0-9][0-9][0-9]_*.up.sql; do
    base=${up%.up.sql}
    file=${base##*/}
    number=${file%%_*}

    [ -f "$base.down.sql" ] || {
        printf '%s: has no down.sql\n' "$up" >&2
        exit 1
    }

    # 010 would be eight in C
    while [ "${number#0}" != "$number" ]; do
        number=${number#0}
    done

    printf '    { %s, "%s",\n' "$number" "${file#*_}"
    printf '      ""\n'
    literal "$up"
    printf '      , ""\n'
    literal "$base.down.sql"
    printf '    },\n'
done

printf '    { 0, NULL, NULL, NULL }\n};\n'
