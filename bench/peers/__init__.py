"""What Postroom is held against besides floors: the same answers, made as they usually are."""
