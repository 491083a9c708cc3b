#!/bin/bash
# Runs every test and closes with what matters: how many passed, what failed, what was skipped and why.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
log=$target/test.log

${CARGO:-cargo} test --release --locked --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

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
