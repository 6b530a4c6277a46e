#!/usr/bin/env bash
# Lets another virtual environment import the packages of .venv, except the editable torch-sucrose: that one is
# announced in a .pth file, and Python reads those only in an environment's own folder.
#
#   tools/lend_packages.sh ENVIRONMENT
set -euo pipefail

site_packages='import sysconfig; print(sysconfig.get_path("purelib"))'
.venv/bin/python -c "$site_packages" >"$("$1/bin/python" -c "$site_packages")/lent.pth"
