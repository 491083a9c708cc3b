#!/bin/bash
# Runs every test and closes with what matters: how many passed, what failed, what was skipped and why.
# With arguments they are cargo test's, and it runs by itself; without, three test programs run at a time.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
log=$target/test.log
cargo=${CARGO:-cargo}

# The programs that take longest come first, so that none of them is left for the end.
first='fs image guest hostile check volume verify http'

build() { # more arguments for cargo
    "$cargo" test --release --locked --no-run --bins --examples --test '*' "$@"
}

programs() { # name and path of every test program, in the order in which they are started
    echo "units -"
    build --message-format=json |
        grep '"profile":{[^}]*"test":true' | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' |
        awk -v first="$first" '
            BEGIN { n = split(first, names, " "); for (i = 1; i <= n; i++) rank[names[i]] = i }
            { name = $0; sub(".*/", "", name); sub("-[0-9a-f]*$", "", name)
              print (name in rank ? rank[name] : n + 1), name, $0 }' | sort -n | cut -d' ' -f2-
}

# They take seconds however they are compiled, and compiling them for speed takes minutes. The compiler works on one core most
# of the time, so other tests run beside it.
units() {
    "$cargo" test --release --locked --lib --config 'profile.release.package.imgmount.opt-level=0'
}

one() { # name, program or - for the library's own tests: its output goes to the log in one piece
    local out program=$2
    out=$(mktemp -p "$3")
    local status=0
    [ "$program" != - ] || program=units
    "$program" > "$out" 2>&1 || status=$?
    flock "$3" sh -c 'printf "\n     Running %s\n" "$1"; cat "$2"' - "$1" "$out"
    return $status
}
export cargo
export -f one units

if [ $# != 0 ]; then
    "$cargo" test --release --locked --no-fail-fast "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
else
    outputs=$(mktemp -d)
    trap 'rm -rf "$outputs"' EXIT
    status=0
    if build; then
        {
            programs | xargs -P 3 -L 1 bash -c 'one "$1" "$2" "$0"' "$outputs" || status=1
            exit "$status"
        } | tee "$log"
        status=${PIPESTATUS[0]}
    else
        status=1
    fi
fi

skips=$(grep -a '^skipped: ' "$log" | sort -u)
echo
if [ -n "$skips" ]; then
    echo "skipped ($(wc -l <<<"$skips")); each line says what it needs:"
    sed 's/^skipped: /  /' <<<"$skips"
    grep -aq 'run .make guest' <<<"$skips" && echo "the real guest is made by:  sudo make guest"
else
    echo "skipped: none"
fi
failed=$(grep -aE '^test .* \.\.\. FAILED$' "$log" | sed 's/^test \(.*\) \.\.\. FAILED$/  \1/')
[ -z "$failed" ] || printf 'failed:\n%s\n' "$failed"
grep -a '^test result:' "$log" | awk -v skipped="$(printf '%s' "$skips" | grep -c .)" '
    { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i-1); if ($i ~ /^failed/) failed += $(i-1) } }
    END { printf "imgmount: %d passed, %d failed\n%d of the passed were skipped; the whole log is in '"$log"'\n", passed, failed, skipped }'
exit "$status"
