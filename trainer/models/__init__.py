"""What variants are made of: the model contract, objectives, priors and layers."""
