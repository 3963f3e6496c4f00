"""The page in the browser: a window on job directories. It starts no process and holds no state that matters."""
