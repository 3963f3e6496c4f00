"""The page around the tabs: server, guard, language, theme, status bar, tour."""
