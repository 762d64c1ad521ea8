"""What several test packages share: factories, stores, servers, waiting, metric scraping."""
