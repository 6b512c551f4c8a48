package credcache

// HeldBytes is what the entries are counted as.
func HeldBytes(c *Cache) int64 { return c.held.bytes }
