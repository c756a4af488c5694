"""Work that may crash, hang or need too much memory, done in a child process; see `graphsplit.isolation.shared`."""
