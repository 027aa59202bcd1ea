#!/usr/bin/env bash
# Tries tools.sh on made-up machines that lack a program each. All of their programs, apt-get too, are scripts in one directory.
set -euo pipefail
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
bash=$(type -P bash)
export bin=$out/bin log=$out/log path=$PATH postgresql_dir=$out/postgresql

fail() {
	printf 'tools_test.sh: %s\n' "$*" >&2
	[ ! -s "$out/said" ] || sed 's/^/\t/' "$out/said" >&2
	exit 1
}

# program NAME LINE... makes a program of the machine.
program() {
	local name=$1
	shift
	printf '%s\n' "#!$bash" "$@" >"$bin/$name"
	chmod +x "$bin/$name"
}

# machine makes one that has everything. Its apt-get writes down what it is asked for, and brings the programs of the variable brings; without
# any it fails.
machine() {
	rm -rf "$bin" "$log"
	mkdir "$bin"
	: >"$log"
	for name in gcc node npm npx python3 php openssl curl jq chromium-headless-shell systemd-analyze kill promtool caddy nginx haproxy ssh-keygen initdb; do
		printf '#!%s\n' "$bash" >"$bin/$name"
	done
	chmod +x "$bin"/*
	program go 'echo gcc'
	program apt-get 'PATH=$path' 'case "$1" in' 'update) echo update >>"$log" ;;' \
		'install)' 'for package; do case "$package" in install | -* | DPkg::*) ;; *) echo "$package" ;; esac; done | xargs >>"$log"' \
		'for name in $brings; do printf "#!%s\n" "$BASH" >"$bin/$name"; chmod +x "$bin/$name"; done' '[ -n "$brings" ]' ';;' 'esac'
}

# try BRINGS COMMAND... runs commands on the machine as run does.
try() {
	PATH=$bin brings=$1 "$bash" -euo pipefail -c 'source ./tools.sh; for step in "$@"; do "$step"; done' - "${@:2}" >"$out/said" 2>&1
}

# asked LINE... holds what apt-get was asked for against the lines.
asked() {
	[ "$(cat "$log")" = "$(printf '%s\n' "$@")" ] || fail "apt-get was asked for: $(xargs <"$log")"
}

# says PATTERN... looks for each in what was said.
says() {
	local pattern
	for pattern; do
		grep -qF -- "$pattern" "$out/said" || fail "nothing is said of $pattern"
	done
}

all=(compiler languages chromium deployment databases)
machine
try '' "${all[@]}" || fail 'nothing is missing, and it fails'
asked ''

while read -r lacks package; do
	machine
	rm "$bin/$lacks"
	try "$lacks" "${all[@]}" || fail "$lacks was brought, and it fails"
	asked update "$package"

	rm "$bin/$lacks"
	! try '' "${all[@]}" || fail "without $lacks it passes"
	says "$lacks is missing" "$package"

	! try other "${all[@]}" || fail "with another program than $lacks it passes"
	says "$lacks is missing" "$package"

	rm "$bin/apt-get"
	! try '' "${all[@]}" || fail "without $lacks and apt-get it passes"
	says "$lacks is missing" "$package"
done <<'END'
gcc gcc
node nodejs
npm npm
npx npm
python3 python3
php php-cli
openssl openssl
curl curl
jq jq
chromium-headless-shell chromium-headless-shell
systemd-analyze systemd
kill procps
promtool prometheus
caddy caddy
nginx nginx-light
haproxy haproxy
ssh-keygen openssh-client
initdb postgresql
END

# Several: each by itself, and one update.
machine
rm "$bin"/{php,caddy}
try 'php caddy curl' "${all[@]}" || fail 'php and caddy were brought, and it fails'
asked update php-cli # with which this one has brought caddy
machine
rm "$bin"/{php,nginx}
program apt-get 'PATH=$path' 'echo "$*" >>"$log"' 'case "$*" in *php-cli) name=php ;; *nginx-light) name=nginx ;; *) exit ;; esac' 'cp "$bin/curl" "$bin/$name"'
try '' "${all[@]}" || fail 'php and nginx were brought, and it fails'
[ "$(grep -c ^update "$log") $(grep -c ^install "$log")" = '1 2' ] || fail "apt-get was called with: $(cat "$log")"

# A Node.js that has its npm with it.
machine
rm "$bin"/{node,npm,npx}
try 'node npm npx' "${all[@]}" || fail 'Node.js was brought with npm, and it fails'
asked update nodejs

# A compiler without headers, and another one than gcc.
machine
program gcc '[ -e "$bin/headers" ] || { echo "stdlib.h: No such file"; exit 1; }'
try headers compiler || fail 'the headers were brought, and it fails'
asked update libc6-dev
rm "$bin/headers"
! try other compiler || fail 'without headers it passes'
says stdlib.h
program go 'echo clang -m64'
mv "$bin/gcc" "$bin/clang"
try headers compiler || fail 'with clang it fails'

# Another browser, and lists of packages that cannot be had.
machine
mv "$bin/chromium-headless-shell" "$bin/google-chrome"
try '' chromium || fail 'google-chrome does not do'
asked ''
rm "$bin/google-chrome"
try chromium chromium || fail 'chromium was brought in place of the headless shell, and it fails'
asked update chromium-headless-shell # with which this one has brought chromium
rm "$bin/php"
program apt-get 'PATH=$path' '[ "$1" != update ] || exit 100' 'cp "$bin/curl" "$bin/php"'
try '' languages || fail 'an update that failed is the end'

# PostgreSQL where Debian has it, which is not in PATH.
machine
rm "$bin/initdb"
program apt-get 'PATH=$path' '[ "$1" != install ] || { mkdir -p "$postgresql_dir/17/bin"; cp "$bin/curl" "$postgresql_dir/17/bin/initdb"; }' 'echo "$*" >>"$log"'
try '' databases || fail 'PostgreSQL was brought outside of PATH, and it fails'
: >"$log"
try '' databases || fail 'PostgreSQL outside of PATH is not found'
asked ''
rm -r "$postgresql_dir"
