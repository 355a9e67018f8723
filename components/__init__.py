"""TFX components of our own: data, gates, metrics, pushing and reports. They know models by signature."""
