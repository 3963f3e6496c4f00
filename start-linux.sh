#!/bin/sh
# Opens LoRA Workbench in the browser. What follows the name is handed on, such as --port 7861.
cd "$(dirname "$0")" || exit 1
for python in python3.13 python3.12 python3.11 python3.10 python3 python; do
  if "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    exec "$python" launch.py "$@"
  fi
done
echo "Python 3.10 to 3.13 was not found. Install it (https://www.python.org/downloads/) and start this again." >&2
if [ -t 0 ]; then
  printf 'Press Enter to close. ' >&2
  read -r _
fi
exit 1
