# Sourced by the steps beside it, behind common.sh. Owns the whole system as `cargo up` starts it, for a step that looks at it
# from outside.
# shellcheck shell=bash

# start_system: sets system, the line of JSON that says where it is, and salesforce, the simulated one's address.
start_system() {
    # The database's account must be able to pass through; what is secret has modes of its own.
    chmod 711 "$private"
    mkdir "$private/home"
    say "starting the system"
    cargo up -- --port 0 --queue postgres --records 2000 --home "$private/home" --json >"$private/up" 2>"$private/up.err" &
    started+=($!)
    local look
    system=
    for look in $(seq 3000); do
        system=$(grep -m 1 '"ui":' "$private/up" || true)
        if [ -n "$system" ]; then break; fi
        kill -0 "${started[-1]}" 2>/dev/null || break
        sleep 0.2
    done
    if [ -z "$system" ]; then
        cat "$private/up.err" >&2
        fail "the system did not start in ${look:-0} looks"
    fi
    salesforce="http://$(cat "$private/home/.servant/salesforce.address")"
}
