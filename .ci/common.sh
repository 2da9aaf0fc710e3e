# Sourced by the steps beside it. Owns what several of them need: saying, installing, a private directory, an SQS server
# that nobody here wrote, and cleaning all of it up, whichever way the step ends.
# shellcheck shell=bash

say() { printf '%s: %s\n' "$STEP" "$*"; }

fail() {
    printf '%s: %s\n' "$STEP" "$*" >&2
    exit 1
}

private=$(mktemp -d "/tmp/servant-$STEP.XXXXXX")
started=()
# A step that makes more than this appends what undoes it.
undo=()

clean_up() {
    local pid command
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    for command in "${undo[@]}"; do eval "$command" || true; done
    rm -rf "$private"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# install PACKAGE...: Debian's packages, where they can be had; whoever calls looks afterwards whether that helped.
install() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return; fi
    say "installing $*"
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || true
}

# need_python: a Python that can make virtual environments.
need_python() {
    if python3 -m venv --without-pip "$private/probe" >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null; then return; fi
    install python3 python3-venv
    python3 -c 'import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        fail "Python 3.10 or later with its venv module is needed; install python3 and python3-venv"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# start_sqs ministack|moto: starts that server at the versions of .ci/NAME.txt and sets sqs_url.
start_sqs() {
    local name=$1 port try log="$private/$1.log" here
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    need_python
    if [ ! -x "$private/$name/bin/python" ]; then
        say "installing $name"
        python3 -m venv "$private/$name"
        "$private/$name/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/$name.txt"
    fi
    # Somebody else may take the port between the look and the start: then there is another.
    for try in 1 2 3; do
        port=$(free_port)
        case $name in
        ministack) GATEWAY_PORT=$port PERSIST_STATE=0 "$private/$name/bin/ministack" >"$log" 2>&1 & ;;
        moto) "$private/$name/bin/moto_server" -H 127.0.0.1 -p "$port" >"$log" 2>&1 & ;;
        *) fail "no server is called $name" ;;
        esac
        started+=($!)
        sqs_url="http://127.0.0.1:$port"
        if answers $! "$sqs_url"; then return; fi
    done
    cat "$log" >&2
    fail "$name did not start after $try tries"
}

# answers PID URL: whether the process serves HTTP there before 30 seconds are over.
answers() {
    local look
    for look in $(seq 300); do
        kill -0 "$1" 2>/dev/null || return 1
        if python3 - "$2" <<'PYTHON' 2>/dev/null; then return 0; fi
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError:
    pass
PYTHON
        sleep 0.1
    done
    return 1
}
