"""How the nodes of the graph are executed, here or in a container, and what came of each."""
