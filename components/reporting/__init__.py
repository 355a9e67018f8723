"""What people look at after a run: gallery, leaderboard, model cards and the report page."""
