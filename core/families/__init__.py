"""Model families: one file each. A family takes a model apart where distillation needs it."""
