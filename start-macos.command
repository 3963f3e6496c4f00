#!/bin/sh
# Opens LoRA Workbench in the browser: double-click it in the Finder.
exec "$(dirname "$0")/start-linux.sh" "$@"
