#!/usr/bin/env bash
# Installs what is missing of the distribution packages that kvattend needs, on Debian 12 and
# Ubuntu 24.04. Does nothing, and needs no network, when all of them are there.
#
# usage: scripts/install_dependencies.sh [build] [test] [tools]
#   build  compiles the server, the client and their tests
#   test   runs the tests: Python, promtool
#   tools  clang, clang-format and clang-tidy, for `make clang format tidy`
# Without arguments: build and test.
set -euo pipefail

build_packages=(
  ca-certificates ccache cmake g++ git lld make ninja-build pkg-config python3
  libabsl-dev libbenchmark-dev libcurl4-openssl-dev libgmock-dev libgrpc++-dev libgtest-dev
  libhwy-dev libprotobuf-dev libspdlog-dev nlohmann-json3-dev prometheus-cpp-dev
  protobuf-compiler protobuf-compiler-grpc
)
test_packages=(prometheus python3-venv)
tools_packages=(clang clang-format clang-tidy)

groups=("$@")
[[ ${#groups[@]} -gt 0 ]] || groups=(build test)
packages=()
for group in "${groups[@]}"; do
  case "$group" in
    build) packages+=("${build_packages[@]}") ;;
    test) packages+=("${test_packages[@]}") ;;
    tools) packages+=("${tools_packages[@]}") ;;
    *) echo "install_dependencies.sh: unknown group '$group': build, test or tools" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "kvattend's packages are Debian's; on another system install: ${packages[*]}" >&2
  exit 1
fi
is_installed() {
  [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed* ]]
}
missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "missing packages, and neither root nor sudo to install them: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

echo "installing ${#missing[@]} packages and what they need: ${missing[*]}"
# Prints a line for each tenth of the packages that is unpacked and set up.
show_progress() {
  awk '
    / newly installed/ { for (i = 1; i < NF; ++i) if ($(i + 1) == "newly") total = $i }
    /^Need to get/ { print "  downloading " $4 " " $5; fflush() }
    /^Unpacking / || /^Setting up / {
      ++done
      tenth = total > 0 ? int(done * 10 / (2 * total)) : 0
      if (tenth > last) { last = tenth; printf "  installed %d %%\n", tenth * 10; fflush() }
    }'
}
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 "$@" \
    </dev/null 2>&1 | tee -a "$log"
}
fail() {
  tail -n 30 "$log" >&2
  echo "could not install: ${missing[*]}" >&2
  exit 1
}
# An update may fail for a source that is not needed; the install says whether it mattered.
apt update >/dev/null || true
apt install -y --no-install-recommends "${missing[@]}" | show_progress || fail

# prometheus is here for promtool and for tests that start their own; not to run in the background.
if [[ " ${missing[*]} " == *" prometheus "* && -d /run/systemd/system ]]; then
  "${as_root[@]}" systemctl disable --now --quiet prometheus || true
fi
