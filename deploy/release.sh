#!/usr/bin/env bash
# Makes the archives of a release: for each system the binary with the documentation, this directory, a bill of materials (CycloneDX) and the
# licences of what is linked in; the bill of materials once more beside it; and SHA256SUMS of all that is in OUT. The same commit and the
# same version of Go give the same bytes.
#
#   deploy/release.sh OUT [SYSTEM/ARCHITECTURE...]     such as deploy/release.sh dist linux/amd64 windows/arm64; without any, all
#
# The version is what "hookbolt version" says: the tag of the commit, else one that is made of its time and hash. The tree has to be as it
# was committed. There is armv7 for linux and freebsd; Go has none for darwin, and none any more for windows.
#
# HOOKBOLT_SIGNING_KEY names a private key of ssh-keygen; with it, SHA256SUMS.sig is the signature of SHA256SUMS. See README.md.
set -euo pipefail

if [ $# -lt 1 ]; then
	sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
if [ -n "${HOOKBOLT_SIGNING_KEY:-}" ]; then
	HOOKBOLT_SIGNING_KEY=$(realpath "$HOOKBOLT_SIGNING_KEY")
fi
cd "$(dirname "$0")/.."

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
	targets=({linux,freebsd}/{amd64,arm64,armv7} {darwin,windows}/{amd64,arm64})
fi
if [ -n "$(git status --porcelain)" ]; then
	echo "release.sh: the tree is not as it was committed; see git status" >&2
	exit 1
fi
committed=$(git log -1 --format=%ct)
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
GOFLAGS='' go build -o "$tools/bom" ./deploy/bom

stage=$(mktemp -d)
trap 'rm -rf "$stage" "$tools"' EXIT
for target in "${targets[@]}"; do
	os=${target%/*} arch=${target#*/}
	binary=hookbolt
	if [ "$os" = windows ]; then
		binary=hookbolt.exe
	fi
	# Whatever flags the environment has; -buildvcs is where the version comes from.
	GOFLAGS='' GOOS=$os GOARCH=${arch%v7} GOARM=7 GOAMD64=v1 GOARM64=v8.0 CGO_ENABLED=0 \
		go build -trimpath -buildvcs=true -ldflags='-s -w' -o "$stage/$binary" .
	version=$(go version -m "$stage/$binary" | awk '$1 == "mod" { print $3 }')

	name=hookbolt_${version}_${os}_$arch
	# What is committed of these, and nothing that lies about, such as tokens for Compose.
	git archive --prefix="$name/" HEAD LICENSE README.md SECURITY.md config.example.toml docs deploy ':(exclude)*_test.go' ':(exclude)deploy/bom' | tar -xf - -C "$stage"
	mv "$stage/$binary" "$stage/$name/"
	"$tools/bom" "$stage/$name/$binary" "$stage/$name/sbom.cdx.json" "$stage/$name/THIRD-PARTY-NOTICES.txt"
	cp "$stage/$name/sbom.cdx.json" "$out/$name.cdx.json"
	chmod -R u=rwX,go=rX "$stage/$name"
	find "$stage/$name" -exec touch -d "@$committed" {} +
	if [ "$os" = windows ]; then
		rm -f "$out/$name.zip"
		(cd "$stage" && find "$name" | LC_ALL=C sort | TZ=UTC zip -qX "$out/$name.zip" -@)
	else
		tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --format=ustar -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
	fi
	echo "$name"
done
cd "$out"
sha256sum hookbolt_* >SHA256SUMS
rm -f SHA256SUMS.sig # of other archives
if [ -n "${HOOKBOLT_SIGNING_KEY:-}" ]; then
	ssh-keygen -q -Y sign -n hookbolt-release -f "$HOOKBOLT_SIGNING_KEY" SHA256SUMS
fi
