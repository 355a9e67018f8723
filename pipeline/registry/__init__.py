"""Models in production: lineage, promotion, rollback and pruning."""
