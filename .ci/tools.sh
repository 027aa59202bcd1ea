# The programs that the checks run, for run to source. Each function makes sure that the programs of its name are there, and installs those
# that are not.

# need PROGRAM PACKAGE... installs the packages if there is no such program, and fails if there is none then.
#
# Each missing program is asked for by itself: apt-get refuses a call as a whole if one of its packages conflicts with what is installed,
# as Debian's npm does with a Node.js of another source.
need() {
	local program=$1
	shift
	if ! has "$program"; then
		bring "$program" "$@"
		if ! has "$program"; then
			printf '%s is missing; apt-get install %s does not bring it\n' "$program" "$*" >&2
			return 1
		fi
	fi
}

# has tells whether there is a program of that name. The builtins of the shell do not count.
has() {
	type -P "$1" >/dev/null
}

# bring WHAT PACKAGE... installs packages. It takes root, but only where something is missing.
bring() {
	local what=$1
	shift
	if ! has apt-get; then
		printf '%s is missing, and there is no apt-get to install it; in Debian: apt-get install %s\n' "$what" "$*" >&2
		return 1
	fi
	if [ -z "${updated-}" ]; then
		updated=yes
		apt-get update -qq || printf 'apt-get update failed; going on with the lists of before\n' >&2
	fi
	# A machine that has just been started may be busy with updates of its own.
	if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; then
		printf '%s is missing, and apt-get install %s has failed\n' "$what" "$*" >&2
		return 1
	fi
}

# The race detector is the only thing here that needs a C compiler.
compiler() {
	local cc
	cc=$(go env CC) # may have flags
	need "${cc%% *}" gcc
	if ! compiles $cc 2>/dev/null; then
		bring stdlib.h libc6-dev
		compiles $cc
	fi
}

compiles() {
	"$@" -x c -fsyntax-only - <<<'#include <stdlib.h>'
}

# What runs the code that the page has for endpoints, and the commands of the documentation.
languages() {
	# First node, with which npm and npx may come. A node without npm is Debian's or a broken one: all others bring their own npm.
	need node nodejs
	need npm npm
	need npx npm
	need python3 python3
	need php php-cli
	need openssl openssl
	need curl curl
	need jq jq
}

# The tests of the pages look for these names, too. The headless shell is the lightest; Ubuntu does not have it.
chromium() {
	local name
	for name in chromium chromium-browser google-chrome; do
		! has "$name" || return 0
	done
	need chromium-headless-shell chromium-headless-shell || need chromium chromium
}

# What deploy/ is for judges it: systemd the unit, which calls kill, Prometheus's tool metrics, alerts and dashboard, and the proxies are used.
# Releases are signed with ssh-keygen.
deployment() {
	need systemd-analyze systemd
	need kill procps
	need promtool prometheus
	need caddy caddy
	need nginx nginx-light
	need haproxy haproxy
	need ssh-keygen openssh-client
}

# The tests of the store in PostgreSQL start servers of their own.
databases() {
	local dir
	# Debian keeps the programs of each version outside of PATH.
	for dir in "${postgresql_dir:=/usr/lib/postgresql}"/*/bin; do
		[ ! -x "$dir/initdb" ] || return 0
	done
	has initdb || {
		bring initdb postgresql
		has initdb || compgen -G "$postgresql_dir/*/bin/initdb" >/dev/null || need initdb postgresql
	}
}
