"""What an experiment is, in numpy alone: settings, schedule, randomness, cost."""
