#!/bin/sh
# Check and unit-test the alert rules with promtool, which Debian's package `prometheus` has.
set -eu
cd "$(dirname "$0")/../deploy/prometheus"
if ! command -v promtool >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "make alerts: promtool is missing: install it (Debian: apt-get install prometheus)" >&2
    exit 1
  fi
  # Without recommended packages, and without starting the server.
  printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.d.$$ && chmod +x /tmp/policy-rc.d.$$
  [ -e /usr/sbin/policy-rc.d ] || { cp /tmp/policy-rc.d.$$ /usr/sbin/policy-rc.d; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }
  rm -f /tmp/policy-rc.d.$$
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends prometheus >/dev/null
fi
promtool check rules alerts.yaml
promtool test rules alerts_test.yaml
