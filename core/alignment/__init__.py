"""How alike two spaces of states are, in numbers and as a picture."""
