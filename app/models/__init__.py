"""Models as child processes load them. `names` is free of heavy imports; `loading` brings torch along."""
