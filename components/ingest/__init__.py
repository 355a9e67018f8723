"""IDX files and other sources of images, and the component that turns them into TFRecords."""
