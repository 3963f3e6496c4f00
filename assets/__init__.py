"""Hold what the workbench ships: the starter model, the sample datasets and the program that makes both."""
