#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the build needs and is not there yet: Debian packages by apt, from tools/packages.txt,
# and, with --venv, the Python packages of the tests and the demo into .venv (tools/requirements.txt).
# Does nothing, and needs neither root nor a network, when all is there.
#
#   tools/install.sh [--check] [--venv]      --check adds the packages of the [check] group
set -euo pipefail
cd "$(dirname "$0")/.."

groups=" build "
venv=no
for argument in "$@"; do
  case $argument in
    --check) groups+="check " ;;
    --venv) venv=yes ;;
    *) echo "install.sh: unknown option $argument; use --check or --venv" >&2; exit 1 ;;
  esac
done

# wanted prints the packages of the chosen groups.
wanted() {
  local group=build line
  while IFS= read -r line; do
    line=${line%%#*}
    line=${line//[[:space:]]/}
    case $line in
      '') ;;
      '['*']') group=${line:1:-1} ;;
      *) [[ $groups == *" $group "* ]] && echo "$line" ;;
    esac
  done < tools/packages.txt
  return 0
}

# missing prints those of them that dpkg does not know as installed.
missing() {
  local package
  for package in $(wanted); do
    [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == 'install ok installed' ]] || echo "$package"
  done
}

install_packages() {
  local packages
  mapfile -t packages < <(missing)
  ((${#packages[@]} == 0)) && return 0
  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "install.sh: run this as root: apt-get install -y ${packages[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "Installing ${#packages[@]} Debian packages: ${packages[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq install -y --no-install-recommends "${packages[@]}" </dev/null >/dev/null
}

install_venv() {
  local stamp=.venv/.requirements
  cmp -s tools/requirements.txt "$stamp" && return 0
  echo "Installing the Python packages of tools/requirements.txt into .venv"
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check --no-input -r tools/requirements.txt
  cp tools/requirements.txt "$stamp"
}

if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
  install_packages
else
  echo "install.sh: this system has no apt; if the build misses something, install the equivalents of" \
       "$(wanted | tr '\n' ' ')" >&2
fi
if [[ $venv == yes ]]; then
  install_venv
fi
