#!/usr/bin/env bash
# The browser of the tests: Debian's Chromium, and Node for the tests of pure JavaScript. Does nothing when they are there.
set -euo pipefail

need=()
command -v chromium >/dev/null || command -v google-chrome >/dev/null || need+=(chromium)
command -v node >/dev/null || need+=(nodejs)
if [ ${#need[@]} -gt 0 ]; then
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then sudo="sudo"; fi
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
