#!/usr/bin/env bash
# DaCHS, a real TAP 1.1 and SIA 2 service (Debian's python3-gavo), on a PostgreSQL cluster of its own with the extensions that it needs.
# It serves the made-up sky of dachs.rd: `ring.stars`, and images in `ivoa.ObsCore`, where the query set `dp02` of SIA looks.
#
# The package gavodachs2-server is left alone: it would set up a service in the system's own PostgreSQL.
. "$(dirname "$0")/lib.sh"

install_missing() {
    # The extensions come for the one version that the distribution has; Debian 12 has 15.
    local version
    version=$(apt-cache show postgresql 2>/dev/null | sed -n 's/^Version: \([0-9]*\).*/\1/p' | head -n 1)
    version=${version:-15}
    debian python3-gavo "postgresql-$version" "postgresql-$version-pgsphere" "postgresql-$version-q3c"
    programs=/usr/lib/postgresql/$version/bin
    # Setting up the database takes most of the time: it is done once, and kept.
    template=$cache/$name/$(cat "$scripts/dachs.sh" "$scripts/dachs.rd" "$scripts/dachs_sky.py" | sha256sum | cut -c1-16).tar
    [ -f "$template" ] || make_template || unavailable "its database cannot be set up"
}

# PostgreSQL refuses to run as root.
unprivileged() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid postgres --regid postgres --init-groups env -C "$folder" HOME="$folder" GAVOSETTINGS="$folder/gavo.rc" "$@"
    else
        env -C "$folder" HOME="$folder" GAVOSETTINGS="$folder/gavo.rc" "$@"
    fi
}

own() { [ "$(id -u)" -ne 0 ] || chown -R postgres:postgres "$folder"; }

make_template() (
    folder=$(mktemp -d "/tmp/mobu-$name-XXXXXX")
    trap clean_up EXIT
    say "setting up its database"
    port=$(free_port)
    mkdir -p "$folder/run" "$folder/gavo/inputs/ring/data"
    cp "$scripts/dachs.rd" "$folder/gavo/inputs/ring/q.rd"
    python3 "$scripts/dachs_sky.py" "$folder/gavo/inputs/ring/data"
    configure
    own
    # Nothing of it is worth a wait for the disk.
    unprivileged "$programs/initdb" -D "$folder/pg" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync &&
        start_postgres &&
        unprivileged "$programs/createdb" -h "$folder/run" -U postgres --encoding UTF8 --template template0 gavo &&
        unprivileged dachs init -d "host=$folder/run port=5432 dbname=gavo" &&
        # One by one: what is published to ObsCore needs ObsCore's own tables first.
        unprivileged dachs imp "//obscore" makeSources &&
        unprivileged dachs imp "//obscore" &&
        unprivileged dachs imp ring/q &&
        unprivileged "$programs/pg_ctl" -D "$folder/pg" -m fast stop &&
        tar -C "$folder" -cf "$template.new" pg gavo &&
        rm -f "$cache/$name"/*.tar &&
        mv "$template.new" "$template"
) >"$cache/$name/template.log" 2>&1

configure() {
    local group=postgres
    [ "$(id -u)" -eq 0 ] || group=$(id -gn)
    cat >"$folder/gavo.rc" <<RC
[general]
rootDir: $folder/gavo
configDir: $folder/gavo/etc
tempDir: $folder/tmp
gavoGroup: $group
group: $group
[web]
bindAddress: 127.0.0.1
serverPort: $port
serverURL: http://127.0.0.1:$port
user:
RC
    mkdir -p "$folder/tmp"
    # The database is reached through a socket in this folder, which is another one each time.
    if [ -f "$folder/gavo/etc/dsn" ]; then
        sed -i "s|^host = .*|host = $folder/run|" "$folder/gavo/etc/dsn"
    fi
}

start_postgres() {
    # Left behind by a kill; the number in them may be another process by now.
    rm -f "$folder/pg/postmaster.pid" "$folder/run/".s.PGSQL.*
    launch $(demoted) "$programs/postgres" -D "$folder/pg" -c listen_addresses= -c unix_socket_directories="$folder/run" -c fsync=off
    local end=$((SECONDS + 180))
    until unprivileged "$programs/pg_isready" -q -h "$folder/run"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

demoted() { [ "$(id -u)" -ne 0 ] || echo setpriv --reuid postgres --regid postgres --init-groups; }

prepare() {
    port=$(free_port)
    tar -C "$folder" -xf "$template"
    mkdir -p "$folder/run"
    configure
    own
    chmod 700 "$folder/pg"
}

# A query that a kill cut off stays `EXECUTING` for ever if the server itself ran it, and two of them are all that DaCHS runs at once: no job would
# ever begin again. Its operators would say that these have failed, and so do we.
fail_the_cut_off() {
    unprivileged "$programs/psql" -q -h "$folder/run" -U postgres gavo -c "UPDATE tap_schema.tapjobs SET phase = 'ERROR' WHERE phase = 'EXECUTING'"
}

start() {
    start_postgres
    fail_the_cut_off
    launch $(demoted) env GAVOSETTINGS="$folder/gavo.rc" dachs serve debug
    until_answers "http://127.0.0.1:$port/tap/availability" 200
}

tell_ready() {
    echo "ready tap=http://127.0.0.1:$port/tap sia=http://127.0.0.1:$port/__system__/siap2/sitewide"
}

# Bash reads no further, so that the file may change meanwhile.
main "$@"; exit
