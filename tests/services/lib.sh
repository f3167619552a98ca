# What the scripts beside this one share. Each runs one real service on loopback, for the ring of real services (docs/reliability.md).
#
#   SERVICE.sh install    fetches what is missing; ends with 77 and says why if it cannot be had here
#   SERVICE.sh run        starts the service with data of its own in a new temporary folder, and tells `ready KEY=VALUE…`
#
# While it runs, it obeys lines on its standard input: `kill` ends the service's processes without a warning and tells `killed`, `start`
# brings them back with the data that they had and tells `ready` again. The end of the input ends everything and removes the folder.
#
# What was fetched is kept in $MOBU_TEST_CACHE, otherwise below the build's target folder, and used again.
set -euo pipefail

name=$(basename "$0" .sh)
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MOBU_TEST_CACHE:-${CARGO_TARGET_DIR:-$scripts/../../target}/services}
# Nothing lives longer than this, whatever becomes of the run.
lifetime=3600
folder=

say() { printf '%s: %s\n' "$name" "$*" >&2; }

# The service cannot be had on this machine. Whoever asked for it says so.
unavailable() {
    say "not available: $*"
    exit 77
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -n "$@"
    else
        say "this needs root or sudo: $*"
        return 1
    fi
}

# debian PACKAGE…: installs packages without starting what they bring.
debian() {
    local package missing=() policy=/usr/sbin/policy-rc.d ours=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null || unavailable "there is no apt-get to install ${missing[*]} with"
    say "installing ${missing[*]}"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy" && ours=yes
    fi
    local status=0
    { apt-cache policy "${missing[@]}" | grep -q 'Candidate: [^(]' || as_root apt-get update -qq; } >&2 || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        status=$?
    [ -z "$ours" ] || as_root rm -f "$policy"
    [ "$status" -eq 0 ] || unavailable "apt-get cannot install ${missing[*]}"
}

# python_environment PACKAGE…: an environment with just these packages at $cache/$name/venv.
python_environment() {
    local at=$cache/$name/venv
    [ "$(cat "$at/complete" 2>/dev/null)" != "$*" ] || return 0
    rm -rf "$at"
    say "installing $* with pip"
    python3 -m venv "$at" >&2 || { debian python3-venv && python3 -m venv "$at" >&2; } || unavailable "python3 has no venv"
    timeout 400 "$at/bin/pip" --quiet --disable-pip-version-check install "$@" >&2 || unavailable "pip cannot install what it needs"
    echo "$*" >"$at/complete"
}

# Prints a port that nobody uses, below those that the system takes for outgoing connections.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    say "no free port"
    return 1
}

# launch PROGRAM ARGUMENT…: in the background, with a log, and marked so that all that comes of it can be found again.
launch() {
    env -C "$folder" HOME="$folder" MOBU_TEST_FOLDER="$folder" setsid timeout --kill-after=5 "$lifetime" "$@" >>"$folder/log" 2>&1 </dev/null &
    # Or the shell would report each that is killed.
    disown
}

# Prints the processes that bear this run's mark, or are at home in its folder: PostgreSQL writes its titles over the mark.
ours() {
    local entry
    for entry in /proc/[0-9]*; do
        if [[ $(readlink "$entry/cwd" 2>/dev/null) == "$folder"/* ]] ||
            tr '\0' '\n' <"$entry/environ" 2>/dev/null | grep -qxF "MOBU_TEST_FOLDER=$folder"; then
            echo "${entry#/proc/}"
        fi
    done 2>/dev/null
}

# Ends all that bear the mark, and looks again: a process may have started another one meanwhile.
kill_ours() {
    local pids
    for _ in $(seq 50); do
        mapfile -t pids < <(ours)
        [ "${#pids[@]}" -gt 0 ] || return 0
        kill -KILL "${pids[@]}" 2>/dev/null || true
        sleep 0.1
    done
    say "something is still there: ${pids[*]}"
}

# until_answers URL STATUS OPTION…: waits until it answers so.
until_answers() {
    local end=$((SECONDS + 180)) url=$1 status=$2
    shift 2
    until [ "$(curl -so /dev/null -m 5 -w '%{http_code}' "$@" "$url" 2>/dev/null)" = "$status" ]; do
        if [ "$SECONDS" -gt "$end" ]; then
            tail -n 40 "$folder/log" >&2 || true
            say "no answer at $url"
            return 1
        fi
        sleep 0.2
    done
}

clean_up() {
    [ -z "$folder" ] || { kill_ours; rm -rf "$folder"; }
}

run() {
    local command
    folder=$(mktemp -d "/tmp/mobu-$name-XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    prepare
    start
    tell_ready
    while read -r -t "$lifetime" command; do
        case $command in
            kill)
                kill_ours
                echo killed
                ;;
            start)
                start
                tell_ready
                ;;
            *) say "unknown command $command" ;;
        esac
    done
}

main() {
    case ${1:-} in
        install | run)
            mkdir -p "$cache/$name"
            cache=$(cd "$cache" && pwd)
            command -v curl >/dev/null || debian curl
            # Two runs at once fetch once.
            exec 9>"$cache/$name/lock"
            flock 9
            install_missing
            exec 9>&-
            [ "$1" = install ] || run
            ;;
        *)
            echo "usage: $0 install|run" >&2
            exit 2
            ;;
    esac
}
